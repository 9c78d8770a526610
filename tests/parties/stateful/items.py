"""FastAPI with UUIDs: items with parts, and orders of both. IDs come back in paths, queries and JSON."""

import uuid
from typing import Any

from fastapi import FastAPI, HTTPException, Response
from pydantic import BaseModel

app = FastAPI()
ITEMS: dict[uuid.UUID, dict[str, Any]] = {}
PARTS: dict[uuid.UUID, dict[str, Any]] = {}
DELETED: set[uuid.UUID] = set()


class Item(BaseModel):
    name: str


class Part(BaseModel):
    label: str


class Reference(BaseModel):
    ref: uuid.UUID


class Order(BaseModel):
    item_ids: list[uuid.UUID]
    part: Reference


def found(item: uuid.UUID) -> dict[str, Any]:
    if item not in ITEMS:
        raise HTTPException(404, "it was deleted" if item in DELETED else "no such item")
    return ITEMS[item]


@app.post("/items", status_code=201)
async def create(item: Item, response: Response) -> dict[str, Any]:
    made = uuid.uuid4()
    ITEMS[made] = {"id": made, "name": item.name}
    response.headers["Location"] = f"/items/{made}"
    return ITEMS[made]


@app.get("/items/{item}")
async def read(item: uuid.UUID) -> dict[str, Any]:
    return found(item)


@app.patch("/items/{item}")
async def change(item: uuid.UUID, given: Item) -> dict[str, Any]:
    found(item)["name"] = given.name
    return found(item)


@app.delete("/items/{item}", status_code=204)
async def delete(item: uuid.UUID) -> None:
    found(item)
    del ITEMS[item]
    DELETED.add(item)


@app.post("/items/{item}/parts", status_code=201)
async def add(item: uuid.UUID, part: Part) -> dict[str, Any]:
    found(item)
    made = uuid.uuid4()
    PARTS[made] = {"id": made, "item_id": item, "label": part.label}
    return PARTS[made]


@app.get("/items/{item}/parts/{part}")
async def read_part(item: uuid.UUID, part: uuid.UUID) -> dict[str, Any]:
    found(item)
    if PARTS.get(part, {}).get("item_id") != item:
        raise HTTPException(404, "no such part")
    return PARTS[part]


@app.get("/parts")
async def parts(item_id: uuid.UUID) -> list[dict[str, Any]]:
    found(item_id)
    return [part for part in PARTS.values() if part["item_id"] == item_id]


@app.post("/orders")
async def order(given: Order) -> dict[str, Any]:
    names = [found(item)["name"] for item in given.item_ids]
    if given.part.ref not in PARTS:
        raise HTTPException(404, "no such part")
    return {"ordered": names, "with": PARTS[given.part.ref]["label"]}
