"""The admin port's front: it answers the health probes itself, and passes all other requests on to the recorder."""
