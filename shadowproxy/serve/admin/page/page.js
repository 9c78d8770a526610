// The whole page, updated each second.

const SILENCE = 5000; // ms without an event (one comes each second) after which the connection counts as lost
const LONGEST_WAIT = 8000; // ms between two tries to connect

let latest = null;

function show(overview) {
  latest = overview;
  const config = overview.config;
  const since = `up ${span(overview.uptime_seconds)}, configuration ${config.generation} of ${clock(config.loaded_at)}`;
  put($("about"), `${overview.version} at ${overview.proxy}, ${since}`);
  $("reload").hidden = config.reload_ok !== false;
  put($("reload"), `The configuration could not be reloaded, and the previous one stays in force: ${config.reload_error}`);
  put($("all"), overview.paused ? "Resume all shadows" : "Pause all shadows");
  $("paused").hidden = !overview.paused;
  put($("window"), span(overview.window_seconds));
  showLive(overview);
  showShadows(overview);
  showVerdicts();
  showDifferences(overview);
  $("main").hidden = false;
}

function connected(overview) {
  document.body.classList.remove("lost");
  $("connection").setAttribute("role", "none"); // or screen readers would read the time out each second
  put(
    $("connection"),
    overview.state === "stopping" ? `Stopping; as of ${clock(overview.at)}` : `Connected; as of ${clock(overview.at)}`,
  );
  name($("connection"), overview.state === "stopping" ? "line fail" : "line pass");
  $("all").disabled = false;
}

function lost(why, next) {
  document.body.classList.add("lost");
  $("all").disabled = true;
  $("connection").setAttribute("role", "alert");
  const as = latest ? ` The figures here are as of ${clock(latest.at)}.` : "";
  put($("connection"), `Not connected: ${why.replace(/\.+$/, "")}. ${next}${as}`);
  name($("connection"), "line fail");
}

/** Read server-sent events from a response until it ends, and pass the data of each to `take`, in a task of its own. */
async function listen(response, alive, take) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    alive();
    const events = (text + value).split(/\r?\n\r?\n/);
    text = events.pop();
    for (const event of events) {
      const data = event
        .split(/\r?\n/)
        .filter((line) => line.startsWith("data:"))
        .map((line) => line.slice(5));
      if (data.length) queueMicrotask(() => take(JSON.parse(data.join("\n"))));
    }
  }
}

const wait = (time) => new Promise((resolve) => setTimeout(resolve, time));
const once = (target, event) => new Promise((resolve) => target.addEventListener(event, resolve, { once: true }));

/** Follow the sidecar for as long as the page is open. While it is hidden, it requests nothing. */
async function follow() {
  for (let failures = 0; ; failures += 1) {
    while (document.hidden) await once(document, "visibilitychange");
    const ending = new AbortController();
    let why = "the sidecar ended the connection";
    let waitsForToken = false;
    let timer = 0;
    const quiet = () => {
      why = "the sidecar is silent";
      ending.abort();
    };
    const alive = () => {
      clearTimeout(timer);
      timer = setTimeout(quiet, SILENCE);
    };
    const leave = () => document.hidden && ending.abort();
    document.addEventListener("visibilitychange", leave);
    try {
      const response = await requestWithToken("GET", "events", { signal: ending.signal });
      alive();
      await listen(response, alive, (overview) => {
        failures = 0;
        connected(overview);
        show(overview);
      });
    } catch (error) {
      if (error.name !== "AbortError") why = error instanceof RequestError ? error.message : "the sidecar cannot be reached";
      waitsForToken = needsToken(error);
    } finally {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", leave);
    }
    if (document.hidden) continue;
    if (waitsForToken) {
      showTokenButton("Give the token");
      lost(why, "");
      await once($("key"), "click");
      continue;
    }
    lost(why, "Trying again.");
    await wait(Math.min(LONGEST_WAIT, 500 * 2 ** failures));
  }
}

$("all").addEventListener("click", () => {
  const paused = latest.paused;
  act($("all"), paused ? "All shadows get requests again, except those paused by name." : "Every shadow is paused.", "POST", paused ? "resume" : "pause");
});
$("newer").addEventListener("click", () => loadDifferences(mismatches(latest)));
$("which").addEventListener("change", () => loadDifferences(mismatches(latest)));
$("key").addEventListener("click", () => {
  if (!token) return; // follow() waits for it
  storeToken("");
  showMessage("The token is forgotten.");
});
$("cancel").addEventListener("click", () => $("ask").close());
storeToken(token);
follow();
