// Answer every request with what was read of it: `node serve.mjs`. What it says is told in far_side.py.

import { createHash } from "node:crypto";
import http from "node:http";

let handled = 0;
let strays = 0;

const server = http.createServer((request, response) => {
  if (request.url === "/report") return response.end(`${handled} ${strays}`);
  const digest = createHash("sha256");
  request.on("data", (part) => digest.update(part));
  request.on("end", () => {
    handled += 1;
    if (!(request.headers.via ?? "").endsWith("1.1 shadowproxy")) strays += 1;
    response.setHeader("X-Read", Buffer.from(`${request.method} ${request.url} ${digest.digest("hex")}`, "latin1").toString("latin1"));
    response.end(Buffer.from(`read ${request.url}`, "latin1"));
  });
});
server.listen(0, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${server.address().port}`));
