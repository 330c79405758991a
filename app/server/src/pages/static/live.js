// Keeps a page alive: the same HTML again when something was recorded, morphed into place; says so when the connection is
// lost, and never shows an old state as if it were new. Without this file every page works too.
"use strict";
(() => {
  const body = document.body;
  const parser = new DOMParser();
  const SILENT_MS = 6500; // three beats of the stream
  let n = Number(body.dataset.n || 0);
  let seen = Date.now(); // when the server was last heard
  let source = null;
  let lost = false;
  let again = 0;
  let asking = null;
  let askAgain = false;
  let tag = "";

  // ---- times ----
  const distance = (ms) => {
    const s = Math.max(0, Math.floor(ms / 1000));
    if (s < 100) return s + " s";
    if (s < 6000) return Math.floor(s / 60) + " min";
    if (s < 172800) return Math.floor(s / 3600) + " h";
    return Math.floor(s / 86400) + " d";
  };
  let skew = 0; // the server's clock minus ours
  const tick = () => {
    const now = Date.now() + skew;
    for (const time of document.querySelectorAll("time[data-t]")) {
      const text = distance(now - Date.parse(time.dateTime));
      if (time.textContent !== text) time.textContent = text;
    }
    if (lost) say();
  };

  // ---- morphing ----
  const morph = (from, to) => {
    if (from.nodeType !== to.nodeType || from.nodeName !== to.nodeName || from.id !== to.id) {
      from.replaceWith(document.importNode(to, true));
      return;
    }
    if (from.nodeType !== Node.ELEMENT_NODE) {
      if (from.data !== to.data) from.data = to.data;
      return;
    }
    if (from.hasAttribute("data-keep") && to.hasAttribute("data-keep")) return;
    for (const { name } of [...from.attributes]) {
      const own = name === "data-dressed" || (name === "open" && from.nodeName === "DETAILS");
      if (!to.hasAttribute(name) && !own) from.removeAttribute(name);
    }
    for (const { name, value } of to.attributes) {
      if (from.getAttribute(name) !== value && !(name === "value" && from === document.activeElement)) from.setAttribute(name, value);
    }
    if (from.nodeName === "SELECT" || from.nodeName === "INPUT") return;
    children(from, to);
  };
  const children = (from, to) => {
    let here = from.firstChild;
    for (const wanted of [...to.childNodes]) {
      while (here && here.nodeType === Node.ELEMENT_NODE && here.hasAttribute("data-own")) here = here.nextSibling;
      const known = wanted.id ? [...from.children].find((child) => child.id === wanted.id) : null;
      if (known && known !== here) from.insertBefore(known, here);
      const same = known || here;
      if (!same) {
        from.append(document.importNode(wanted, true));
        continue;
      }
      const next = known && known !== here ? here : same.nextSibling;
      // What stands further on under its own id is not written over.
      if (!known && here.id && here.id !== wanted.id && [...to.childNodes].some((later) => later.id === here.id)) {
        from.insertBefore(document.importNode(wanted, true), here);
        continue;
      }
      morph(same, wanted);
      here = next;
    }
    while (here) {
      const next = here.nextSibling;
      if (!(here.nodeType === Node.ELEMENT_NODE && here.hasAttribute("data-own"))) here.remove();
      here = next;
    }
  };

  // ---- the page again ----
  const refresh = async () => {
    if (asking) {
      askAgain = true;
      return asking;
    }
    asking = (async () => {
      try {
        const headers = tag ? { "if-none-match": tag } : {};
        const answer = await fetch(location.href, { headers, cache: "no-store", credentials: "same-origin" });
        if (answer.status === 401) return signedOut();
        heard();
        skewed(answer);
        if (answer.status === 304) return;
        if (!answer.ok && answer.status !== 404) throw new Error(String(answer.status));
        tag = answer.headers.get("etag") || "";
        const next = parser.parseFromString(await answer.text(), "text/html");
        if (next.body.dataset.build && next.body.dataset.build !== body.dataset.build) return location.reload();
        document.title = next.title;
        const ends = [...document.querySelectorAll(".end")].filter((end) => end.scrollTop + end.clientHeight >= end.scrollHeight - 20);
        for (const id of ["banners", "main"]) {
          const [from, to] = [document.getElementById(id), next.getElementById(id)];
          if (from && to) children(from, to);
        }
        for (const end of ends) end.scrollTop = end.scrollHeight;
        n = Number(next.body.dataset.n || n);
        body.dataset.n = n;
        body.dataset.every = next.body.dataset.every || "";
        dress();
        found();
      } catch {
        lose();
      }
    })();
    await asking;
    asking = null;
    if (askAgain) {
      askAgain = false;
      refresh();
    }
  };
  const skewed = (answer) => {
    const date = Date.parse(answer.headers.get("date") || "");
    if (date && Math.abs(date - Date.now()) > 5000) skew = date - Date.now();
  };

  // ---- the connection ----
  const bar = document.getElementById("lost");
  const pill = document.getElementById("live");
  const say = () => {
    bar.hidden = false;
    bar.textContent = `Connection lost. What stands here was last seen ${distance(Date.now() - seen)} ago; trying again.`;
    pill.hidden = false;
    pill.className = "pill bad";
    pill.textContent = "✕ not live";
  };
  const lose = () => {
    if (!lost) {
      lost = true;
      body.classList.add("stale");
      say();
    }
    if (source) source.close();
    source = null;
    clearTimeout(again);
    again = setTimeout(connect, 1000);
  };
  const heard = () => {
    seen = Date.now();
  };
  // Only a page that was read anew is said to be live again.
  const found = () => {
    heard();
    lost = false;
    body.classList.remove("stale");
    bar.hidden = true;
    pill.hidden = false;
    pill.className = "pill good";
    pill.textContent = "● live";
  };
  const signedOut = () => {
    if (source) source.close();
    source = null;
    clearTimeout(again);
    lost = false;
    body.classList.add("stale");
    body.dataset.over = "yes";
    bar.hidden = false;
    bar.textContent = "You are signed out; what stands here is old. In a terminal: slipway open";
    pill.hidden = true;
  };
  const connect = () => {
    if (body.dataset.over) return;
    clearTimeout(again);
    const project = body.dataset.project ? "&project=" + encodeURIComponent(body.dataset.project) : "";
    source = new EventSource(`/live?after=${n}${project}`);
    source.addEventListener("hello", (event) => {
      const hello = JSON.parse(event.data);
      heard();
      if (hello.build !== body.dataset.build) return location.reload();
      if (hello.behind || lost) refresh();
      else found();
      follow();
    });
    source.addEventListener("changed", () => {
      heard();
      refresh();
    });
    source.addEventListener("beat", heard);
    source.onerror = () => {
      // A page that is being left loses its stream too; that is no news.
      lose();
      if (!asking) refresh();
    };
  };
  const watch = () => {
    if (body.dataset.over || document.hidden) return;
    if (!lost && source && Date.now() - seen > SILENT_MS) lose();
    const every = Number(body.dataset.every || 0);
    if (!lost && every && Date.now() - last >= every * 1000) {
      last = Date.now();
      refresh();
    }
  };
  let last = Date.now();

  // ---- logs ----
  const LINES = 5000;
  let log = null;
  const follow = () => {
    const pre = document.querySelector("pre[data-stream]");
    if (!pre || (log && log.pre === pre && log.source.readyState !== EventSource.CLOSED)) return;
    if (log) log.source.close();
    const stream = new EventSource(`${pre.dataset.stream}?from=${pre.dataset.next}`);
    log = { pre, source: stream };
    stream.onmessage = (event) => {
      heard();
      const down = innerHeight + scrollY >= document.documentElement.scrollHeight - 80;
      // Each line was escaped by the server, which alone makes them.
      pre.insertAdjacentHTML("beforeend", event.data.split("\n").map((line) => line + "\n</span>").join(""));
      pre.dataset.next = event.lastEventId;
      while (pre.childElementCount > LINES) pre.firstElementChild.remove();
      if (down) scrollTo(0, document.documentElement.scrollHeight);
    };
    stream.addEventListener("beat", heard);
    stream.addEventListener("end", () => {
      stream.close();
      delete pre.dataset.stream;
      refresh();
    });
    stream.onerror = () => {
      if (stream.readyState === EventSource.CLOSED) log = null;
    };
  };

  // ---- small comforts ----
  const dress = () => {
    for (const block of document.querySelectorAll("[data-copy]:not([data-dressed])")) {
      block.dataset.dressed = "yes";
      const words = () => [...block.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE).map((node) => node.data).join("");
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.own = "yes";
      button.textContent = "Copy";
      button.setAttribute("aria-label", "Copy: " + words().slice(0, 60));
      button.onclick = async () => {
        try {
          await navigator.clipboard.writeText(words());
          button.textContent = "Copied";
        } catch {
          getSelection().selectAllChildren(block);
          button.textContent = "Marked";
        }
        setTimeout(() => (button.textContent = "Copy"), 1500);
      };
      block.append(button);
    }
    for (const end of document.querySelectorAll(".end:not([data-dressed])")) {
      end.dataset.dressed = "yes";
      end.scrollTop = end.scrollHeight;
    }
    follow();
    tick();
  };

  dress();
  setInterval(tick, 1000);
  if (body.dataset.every) {
    // Leaving a page ends its streams; that must not flash as a loss.
    addEventListener("pagehide", () => {
      body.dataset.over = "yes";
      if (source) source.close();
      if (log) log.source.close();
    });
    addEventListener("pageshow", (event) => {
      if (!event.persisted) return;
      delete body.dataset.over;
      lose();
      connect();
    });
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) refresh();
    });
    connect();
    setInterval(watch, 500);
  }
})();
