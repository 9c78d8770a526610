// Asking the sidecar, with the token where it needs one.

class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

let token = remembered();

/** The token of this tab, where the browser lets a page keep one. */
function remembered() {
  try {
    return sessionStorage.getItem("admin_token") ?? "";
  } catch {
    return "";
  }
}

/** What can be done about the token now: its button's words, or nothing. */
function offerKey(words) {
  $("key").hidden = !words;
  put($("key"), words || "Give the token");
}

function remember(given) {
  token = given;
  offerKey(given ? "Forget the token" : "");
  $("open").hidden = given !== ""; // a link cannot send the token
  try {
    if (given) sessionStorage.setItem("admin_token", given);
    else sessionStorage.removeItem("admin_token");
  } catch {
    // It is kept in memory, until the page is loaded again.
  }
}

/** One request to where the page came from. Raises Refused with what the answer says, or what the browser raises. */
async function ask(method, path, { body, signal } = {}) {
  const headers = {};
  if (method !== "GET") headers["X-Shadowproxy-Admin"] = "1";
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  const options = { method, headers, signal, cache: "no-store", credentials: "omit", redirect: "error" };
  const response = await fetch(path, body ? { ...options, body: JSON.stringify(body) } : options);
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  throw new Refused(response.status, said.error?.detail ?? `the sidecar answered ${response.status}`);
}

/** Whether the answer was that the token is missing or wrong; by a name that the sidecar does not know it is needed. */
const needsToken = (error) => error.status === 401 || error.status === 421;

/** `ask`, and where the answer is that a token is needed, ask for one and try again. */
async function asked(...request) {
  for (;;) {
    try {
      return await ask(...request);
    } catch (error) {
      if (!needsToken(error) || !(await given(error.message))) throw error;
    }
  }
}

let asking = null;

/** Ask for the token; several that need it share one question. Resolves to whether it was given. */
function given(why) {
  asking ??= new Promise((resolve) => {
    put($("why"), why);
    $("token").value = "";
    $("ask").returnValue = "";
    $("ask").addEventListener(
      "close",
      () => {
        const use = $("ask").returnValue === "give" && $("token").value !== "";
        if (use) remember($("token").value);
        $("token").value = "";
        asking = null;
        resolve(use);
      },
      { once: true },
    );
    $("ask").showModal();
  });
  return asking;
}

function say(text, failed = false) {
  put($("said"), text);
  name($("said"), failed ? "line fail" : "line");
}

/** Do what a person asked for, with its button off meanwhile, and say what came of it. */
async function act(button, done, method, path, body) {
  button.disabled = true;
  try {
    await asked(method, path, { body });
  } catch (error) {
    return say(`Not done: ${error.message}`, true);
  } finally {
    button.disabled = false;
  }
  say(done);
  show(await (await ask("GET", "overview")).json()); // the next event would say it too, a second later
}
