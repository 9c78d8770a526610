// Trailers and interim responses by Node: `node trailers.mjs serve`, `node trailers.mjs ask URL`.
//
// The caller expects 100 before it sends its body with a trailer. The server sends 103 first, and a trailer with what it
// got. The caller prints what it got as JSON.

import http from "node:http";

function serve() {
  const server = http.createServer((request, response) => {
    const parts = [];
    response.writeEarlyHints({ link: "</style.css>; rel=preload" });
    request.on("data", (part) => parts.push(part));
    request.on("end", () => {
      response.writeHead(200, { Trailer: "X-Got", "Content-Type": "text/plain" });
      response.write(Buffer.concat(parts));
      response.addTrailers({ "X-Got": request.trailers["x-sum"] ?? "no trailer", "X-TE": request.headers.te ?? "no TE" });
      response.end();
    });
  });
  server.listen(0, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${server.address().port}`));
}

function ask(url) {
  const told = { interim: [], continued: false };
  const headers = { Expect: "100-continue", TE: "trailers", Trailer: "X-Sum", "Transfer-Encoding": "chunked" };
  const request = http.request(`${url}/trailers`, { method: "POST", headers });
  request.on("information", ({ statusCode, headers: { link } }) => statusCode !== 100 && told.interim.push([statusCode, link]));
  request.on("continue", () => {
    told.continued = true;
    request.write("some ");
    request.addTrailers({ "X-Sum": "42" });
    request.end("body");
  });
  request.on("response", (response) => {
    const parts = [];
    response.on("data", (part) => parts.push(part));
    response.on("end", () => {
      const { "x-got": got, "x-te": te } = response.trailers;
      console.log(JSON.stringify({ ...told, status: response.statusCode, body: Buffer.concat(parts).toString(), got, te }));
      process.exit();
    });
  });
  request.flushHeaders();
}

if (process.argv[2] === "serve") serve();
else ask(process.argv[3]);
