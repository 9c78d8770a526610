"""The composition root: builds what one configuration needs, and changes to the next one."""
