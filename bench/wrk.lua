-- The closed loop's request, by environment, and its figures as one line of JSON.
wrk.method = os.getenv("BENCH_METHOD")
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Accept"] = "application/json"
wrk.headers["User-Agent"] = "bench"
wrk.headers["Authorization"] = "Bearer bench-secret"
local file = os.getenv("BENCH_BODY")
if file then
  local opened = assert(io.open(file, "rb"))
  wrk.body = opened:read("*a")
  opened:close()
end

if os.getenv("BENCH_UNLIKE") then
  local count = 0
  function request()
    count = count + 1
    wrk.headers["X-Request-ID"] = string.format("bench-%012d", count)
    wrk.headers["Traceparent"] = string.format("00-%032x-%016x-01", count, count)
    return wrk.format()
  end
end

function done(summary, latency, requests)
  local failed = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "seconds": %.6f, "p99_ms": %.4f, "failed": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(99) / 1e3,
    failed.connect + failed.read + failed.write + failed.status + failed.timeout))
end
