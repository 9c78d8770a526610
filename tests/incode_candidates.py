"""Callables that tests give as shadows: their processes import this module, and nothing of pytest."""

import os
import time
from typing import Any


def same(features: dict[str, Any]) -> dict[str, Any]:
    return {"score": features["x"] + 0.5}


async def other(features: dict[str, Any]) -> dict[str, Any]:
    return {"score": features["x"] + 0.25}


def changing(features: dict[str, Any]) -> dict[str, Any]:
    features["x"] = 100
    return same(features)


def hanging(features: dict[str, Any]) -> None:
    time.sleep(600)


def ending(features: dict[str, Any]) -> None:
    os._exit(3)
