// All of it, told anew each second.

const SILENCE = 5000; // ms without an event, of which there is one a second, after which the connection counts as lost
const LONGEST_WAIT = 8000; // ms between two tries to connect

let latest = null;

function show(told) {
  latest = told;
  const config = told.config;
  const since = `up ${span(told.uptime_seconds)}, configuration ${config.generation} of ${clock(config.loaded_at)}`;
  put($("about"), `${told.version} at ${told.proxy}, ${since}`);
  $("reload").hidden = config.reload_ok !== false;
  put($("reload"), `The configuration could not be read again, and the one before holds: ${config.reload_error}`);
  put($("all"), told.paused ? "Resume all shadows" : "Pause all shadows");
  $("paused").hidden = !told.paused;
  put($("window"), span(told.window_seconds));
  showLive(told);
  showShadows(told);
  showDifferences(told);
  $("main").hidden = false;
}

function connected(told) {
  document.body.classList.remove("lost");
  $("connection").setAttribute("role", "none"); // nobody wants the time read out each second
  put(
    $("connection"),
    told.state === "stopping" ? `Stopping; as of ${clock(told.at)}` : `Connected; as of ${clock(told.at)}`,
  );
  name($("connection"), told.state === "stopping" ? "line fail" : "line pass");
  $("all").disabled = false;
}

function lost(why, next) {
  document.body.classList.add("lost");
  $("all").disabled = true;
  $("connection").setAttribute("role", "alert");
  const as = latest ? ` What stands here is as of ${clock(latest.at)}.` : "";
  put($("connection"), `Not connected: ${why.replace(/\.+$/, "")}. ${next}${as}`);
  name($("connection"), "line fail");
}

/** Read server-sent events off an answer until it ends, and give what each holds to `take`; its defects are its own. */
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

/** Follow the sidecar for as long as the page is open. Nobody is told anything while nobody looks. */
async function follow() {
  for (let failures = 0; ; failures += 1) {
    while (document.hidden) await once(document, "visibilitychange");
    const ending = new AbortController();
    let why = "the sidecar ended the connection";
    let refused = false;
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
      const response = await asked("GET", "events", { signal: ending.signal });
      alive();
      await listen(response, alive, (told) => {
        failures = 0;
        connected(told);
        show(told);
      });
    } catch (error) {
      if (error.name !== "AbortError") why = error instanceof Refused ? error.message : "the sidecar cannot be reached";
      refused = needsToken(error);
    } finally {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", leave);
    }
    if (document.hidden) continue;
    if (refused) {
      offerKey("Give the token");
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
  act($("all"), paused ? "Mirroring goes on." : "Every shadow is paused.", "POST", paused ? "resume" : "pause");
});
$("newer").addEventListener("click", () => loadDifferences(mismatches(latest)));
$("which").addEventListener("change", () => loadDifferences(mismatches(latest)));
$("key").addEventListener("click", () => {
  if (!token) return; // follow() waits for it
  remember("");
  say("The token is forgotten.");
});
$("cancel").addEventListener("click", () => $("ask").close());
remember(token);
follow();
