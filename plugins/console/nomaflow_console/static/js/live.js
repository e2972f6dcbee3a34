// Keeps the page live by one stream: parts arrive as HTML and are morphed in, log lines as events of the element #live.
// Four visible tabs have a stream; a further one asks every five seconds, since a browser opens six connections to a
// server and then hangs. A hidden tab has none.
(() => {
  const place = document.getElementById("live");
  if (!place) return;
  const line = document.getElementById("kernel-line");
  const bar = document.getElementById("live-bar");
  const [slots, tick, quiet] = [4, 5000, 2000];
  let address = place.dataset.live;
  let stream = null; // the element with the connection
  let release = null; // gives the slot back
  let connection = null; // the stream as htmx has it
  let open = false;
  let heard = Date.now(); // the last word of the console
  let patience = Infinity; // how long it may say nothing, once its first heartbeat has told
  let silentSince = 0; // when somebody noticed that it says nothing
  let over = false;

  const takeSlot = async () => {
    if (!navigator.locks) return () => {};
    for (let number = 0; number < slots; number++) {
      const free = await new Promise((found) => {
        navigator.locks.request(`nomaflow-live-${number}`, { ifAvailable: true }, (lock) =>
          lock ? new Promise((done) => found(done)) : found(null),
        );
      });
      if (free) return free;
    }
    return null;
  };

  const drop = () => {
    stream?.dispatchEvent(new Event("htmx:abort")); // else a console that hangs collects what is asked again and again
    stream?.remove();
  };

  const freshElement = () => {
    drop();
    stream = document.createElement("div");
    stream.setAttribute("hx-swap", "none");
    place.append(stream);
    return stream;
  };

  const stop = () => {
    drop();
    stream = null;
    open = false;
    release?.();
    release = null;
  };

  const start = async () => {
    if (document.hidden || open) return;
    const slot = release ?? (await takeSlot());
    if (document.hidden || (release && release !== slot)) {
      slot?.();
      return;
    }
    release = slot;
    const element = freshElement();
    if (slot && !over) {
      element.setAttribute("hx-sse:connect", address);
      htmx.process(element);
    } else {
      htmx.ajax("GET", `${address}&once=1`, { source: element, swap: "none" }).catch(() => {});
    }
  };

  // What changes something is off, with the reason, while nobody would do it.
  const buttons = () => {
    const away = line.querySelector(".is-away");
    const why = over ? "your session is over" : silentSince ? "the console does not answer" : away ? `the kernel ${away.matches("a") ? "cannot work" : "does not answer"}` : "";
    for (const button of document.querySelectorAll('button:not([type="button"])')) {
      // A button may stand outside its form.
      if (!button.form?.matches("[method=post]:not([data-always])")) continue;
      if (why && !over && !button.disabled) {
        Object.assign(button, { disabled: true, title: why });
        button.dataset.off = "";
      } else if (!why && "off" in button.dataset) {
        Object.assign(button, { disabled: false, title: "" });
        delete button.dataset.off;
      }
    }
    if (place.dataset.reload !== undefined && !why && open) location.reload();
  };

  const say = () => {
    const silent = silentSince && Date.now() - silentSince >= quiet;
    line.hidden = Boolean(over || silent);
    bar.hidden = !line.hidden;
    bar.querySelector("[data-over]").hidden = !over;
    bar.querySelector("[data-silent]").hidden = over || !silent;
    const age = Math.round((Date.now() - heard) / 1000);
    bar.querySelector("[data-age]").textContent = age < 60 ? `${age} s` : `${Math.floor(age / 60)} min`;
  };

  // A connection that is dead, with no error. After a sleep of the machine it is replaced before anything is said.
  const watch = () => {
    if (document.hidden || over) return;
    if (!silentSince && Date.now() - heard > patience) {
      silentSince = Date.now();
      connection?.reader?.cancel(); // htmx connects again
      buttons();
    }
    if (silentSince) say();
  };

  const answered = () => {
    heard = Date.now();
    silentSince = 0;
    over = false;
    say();
    buttons();
  };

  place.addEventListener("htmx:sse:after:connection", (event) => {
    connection = event.detail.connection;
    open = true;
    answered();
  });
  place.addEventListener("htmx:sse:after:message", (event) => {
    const { id } = event.detail.message;
    if (id) {
      const next = new URL(address, location.href);
      next.searchParams.set("after", id);
      if (!line.querySelector(".is-away")) next.searchParams.delete("as_of"); // it shows what is now
      address = next.pathname + next.search;
    }
    answered();
  });
  place.addEventListener("htmx:sse:close", (event) => {
    if (event.target === stream) open = false;
  });
  const failed = (event) => {
    const status = event.detail?.status ?? event.detail?.ctx?.response?.status;
    if (status === 401) over = true;
    else silentSince ||= Date.now();
    if (over) stop();
    say();
    buttons();
  };
  for (const name of ["htmx:sse:error", "htmx:response:error", "htmx:error"]) place.addEventListener(name, failed);
  place.addEventListener("heartbeat", (event) => (patience = 2500 * event.detail.data));
  place.addEventListener("session-over", () => failed({ detail: { status: 401 } }));

  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : start()));
  addEventListener("pagehide", stop);
  addEventListener("pageshow", (event) => event.persisted && start());
  new MutationObserver(buttons).observe(line, { childList: true, subtree: true });
  setInterval(watch, 1000);
  setInterval(start, tick);
  buttons();
  start();
})();
