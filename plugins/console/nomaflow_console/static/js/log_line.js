// One line of a log as DOM nodes. Text is always text: nothing here makes markup of what a program printed.

const LINK = /\bhttps?:\/\/[^\s<>"'`\\]+[^\s<>"'`\\.,;:!?)\]}]/g; // a backslash spells out a control
const SHOWN_LINES = 6; // of a message; more of them fold
const TRACEBACK = "Traceback (most recent call last):";

/** @param {string} name @param {string} kind @param {string} [text] */
function made(name, kind, text) {
  const node = document.createElement(name);
  if (kind) node.className = kind;
  if (text !== undefined) node.textContent = text;
  return node;
}

/** @param {string} kind @param {string} text @param {string} title */
function button(kind, text, title) {
  const node = made("button", kind, text);
  node.setAttribute("type", "button");
  node.title = title;
  return node;
}

/** @param {Line} line @param {Line | undefined} before @param {LogWindow} log */
function lineNode(line, before, log) {
  const node = made("li", `log-line k-${line.kind}`);
  node.dataset.row = String(line.row);
  const anchor = made("a", "n", number.format(line.seq));
  anchor.setAttribute("href", `#L${line.seq}`);
  anchor.setAttribute("tabindex", "-1");
  const time = made("span", "t", timeText(line, before, log.times));
  time.title = `${line.day} ${line.clock} · step ${line.step}, try ${line.try}`;
  const logger = made("span", "g", line.logger);
  logger.title = `${line.logger}${line.shared ? ": may be of a step beside it" : ""}`;
  if (line.shared) logger.classList.add("is-shared");
  node.append(anchor, time, made("span", "l", line.level), logger, message(line, log));
  return node;
}

/** @param {Line} line @param {Line | undefined} before @param {string} mode */
function timeText(line, before, mode) {
  if (mode === "utc") return new Date(line.at / 1000).toISOString().replace("T", " ").replace("Z", "");
  if (mode === "delta" && before) {
    const seconds = (line.at - before.at) / 1e6;
    return `${seconds < 0 ? "−" : "+"}${Math.abs(seconds).toFixed(3)}`;
  }
  return line.clock;
}

/** The text in lines, each of segments. @param {Line} line @returns {[string, string][][]} */
function linesOf(line) {
  /** @type {[string, string][][]} */
  const lines = [[]];
  for (const [text, kind] of line.text) {
    text.split("\n").forEach((piece, at) => {
      if (at) lines.push([]);
      if (piece) lines[lines.length - 1].push([piece, kind]);
    });
  }
  while (lines.length > 1 && !lines[lines.length - 1].length) lines.pop();
  return lines;
}

/** @param {[string, string][]} pieces */
const plain = (pieces) => pieces.map((piece) => piece[0]).join("");

/** @param {Line} line @param {LogWindow} log */
function message(line, log) {
  const node = made("span", "m");
  const lines = linesOf(line);
  const trace = lines.findIndex((each) => plain(each).startsWith(TRACEBACK));
  if (trace < 0 && lines.length <= SHOWN_LINES) {
    node.append(...styled(line.text, log.search.text));
    tree(node, line, lines.length === 1 ? plain(lines[0]) : "", log);
  } else {
    const ends = trace >= 0 ? lines.length - 1 : 0;
    const head = trace === 0 ? lines[ends] : lines[0];
    const inside = lines.slice(trace >= 0 ? trace : 1);
    node.append(...styled(head, log.search.text));
    if (trace > 0) node.append(made("span", "quiet", ` — ${plain(lines[ends])}`));
    if (lines.length === 1) fold(node, line, "frames", log); // seen only where there are any
    else {
      fold(node, line, trace >= 0 ? `traceback, ${inside.length} lines` : `${inside.length} more lines`, log, () => {
        const body = made("span", "folded");
        inside.forEach((each, at) => body.append(...(at ? ["\n"] : []), ...styled(each, log.search.text)));
        return body;
      });
    }
  }
  if (line.cut) whole(node, line, log);
  const older = line.older;
  if (older) fold(node, line, `${older.length} written over`, log, () => made("span", "folded quiet", older.join("\n")));
  if (line.continued) node.append(made("span", "quiet", " ⏎ goes on in the next line"));
  return node;
}

/** @param {[string, string][]} pieces @param {string} needle */
function styled(pieces, needle) {
  return pieces.flatMap(([text, kind]) => {
    const nodes = linked(text, needle);
    if (!kind) return nodes;
    const span = made("span", kind);
    span.append(...nodes);
    return [span];
  });
}

/** @param {string} text @param {string} needle @returns {Node[]} */
function linked(text, needle) {
  const nodes = [];
  let at = 0;
  for (const found of text.matchAll(LINK)) {
    nodes.push(...marked(text.slice(at, found.index), needle));
    const inside = found[0].includes("(") && text[found.index + found[0].length] === ")"; // such as /wiki/A_(B)
    const address = found[0] + (inside ? ")" : "");
    const link = made("a", "");
    link.setAttribute("href", address);
    link.setAttribute("rel", "noreferrer");
    link.setAttribute("target", "_blank");
    link.append(...marked(address, needle));
    nodes.push(link);
    at = found.index + address.length;
  }
  return [...nodes, ...marked(text.slice(at), needle)];
}

/** @param {string} text @param {string} needle @returns {Node[]} */
function marked(text, needle) {
  if (!text) return [];
  const low = text.toLowerCase();
  if (!needle || low.length !== text.length) return [new Text(text)];
  const nodes = [];
  let at = 0;
  for (let found = low.indexOf(needle); found >= 0; found = low.indexOf(needle, at)) {
    if (found > at) nodes.push(new Text(text.slice(at, found)));
    at = found + needle.length;
    nodes.push(made("mark", "", text.slice(found, at)));
  }
  if (at < text.length) nodes.push(new Text(text.slice(at)));
  return nodes;
}

/** What opens under a line: a part of its own, or the rows of a traceback. @param {HTMLElement} node @param {Line} line @param {string} label @param {LogWindow} log @param {() => HTMLElement} [make] */
function fold(node, line, label, log, make) {
  const toggle = button(make ? "fold" : "fold frames", "", "Show or hide");
  /** @type {HTMLElement | undefined} */
  let body;
  const set = (/** @type {boolean} */ on) => {
    body?.remove();
    toggle.textContent = `${on ? "⊟" : "⊞"} ${label}`;
    toggle.setAttribute("aria-expanded", String(on));
    if (on && make) node.append((body = make()));
  };
  toggle.addEventListener("click", () => {
    const on = !log.open.delete(line.row);
    if (on) log.open.add(line.row);
    set(on);
    log.draw();
  });
  node.append(" ", toggle);
  set(log.open.has(line.row));
}

/** Open what is folded in a line. @param {HTMLElement | undefined} node @param {LogWindow} log */
function openFold(node, log) {
  const toggle = node?.querySelector(".fold");
  if (toggle instanceof HTMLElement && node && !log.open.has(Number(node.dataset.row))) toggle.click();
}

/** A line whose end is JSON opens as a tree. @param {HTMLElement} node @param {Line} line @param {string} text @param {LogWindow} log */
function tree(node, line, text, log) {
  const start = text.search(/[{[]/);
  if (start < 0 || !/[}\]]\s*$/.test(text)) return;
  let value;
  try {
    value = JSON.parse(text.slice(start));
  } catch {
    return;
  }
  if (!value || typeof value !== "object" || !Object.keys(value).length) return;
  fold(node, line, "tree", log, () => branch(value, 0));
}

/** What would turn text round is spelled out, as in the line itself. @param {string} text */
const seen = (text) => text.replace(/\p{Bidi_C}/gu, (each) => "\\u" + each.charCodeAt(0).toString(16));

/** @param {any} value @param {number} depth @returns {HTMLElement} */
function branch(value, depth) {
  const list = made("ul", "tree");
  for (const [key, inner] of Object.entries(value).slice(0, 500)) {
    const item = made("li", "");
    const name = made("span", "quiet", `${seen(key)}: `);
    if (inner && typeof inner === "object" && depth < 50) {
      const details = document.createElement("details");
      const summary = made("summary", "");
      const size = Object.keys(inner).length;
      summary.append(name, Array.isArray(inner) ? `[${size}]` : `{${size}}`);
      details.append(summary);
      details.open = depth < 1 && size <= 20;
      const grow = () => details.open && details.childElementCount === 1 && details.append(branch(inner, depth + 1));
      details.addEventListener("toggle", grow);
      grow();
      item.append(details);
    } else item.append(name, seen(JSON.stringify(inner)));
    list.append(item);
  }
  return list;
}

/** @param {HTMLElement} node @param {Line} line @param {LogWindow} log */
function whole(node, line, log) {
  const more = button("fold", `… ${number.format(line.cut || 0)} more characters`, "Show the whole line");
  more.addEventListener("click", async () => {
    const shown = await log.ask(`row=${line.row}&before=0&count=1&whole=1`);
    if (!shown?.lines.length) return;
    log.known.set(line.row, shown.lines[0]);
    log.redraw();
  });
  node.append(" ", more);
}
