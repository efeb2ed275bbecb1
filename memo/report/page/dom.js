// Elements, tables and the tip: all text goes in as text, never as markup.

const $ = (id) => document.getElementById(id);

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false && value !== undefined) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// `head` and the cells of `rows` are text or elements; columns named in `words` are aligned left.
function table(head, rows, words = []) {
  const cell = (tag, content, column, scope) =>
    element(tag, { class: words.includes(column) ? "words" : undefined, scope }, content ?? "");
  return element("table", {},
    element("thead", {}, element("tr", {}, ...head.map((text, column) => cell("th", text, column, "col")))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map((content, column) =>
      cell(column === 0 ? "th" : "td", content, column, column === 0 ? "row" : undefined))))));
}

function behind(title, content) {
  return element("details", {}, element("summary", {}, title), element("div", {}, content));
}

// The tip at the pointer or at the keyboard's position: a title and lines below it.
function showTip(lines, x, y) {
  const tip = $("tip");
  if (!lines) {
    tip.hidden = true;
    return;
  }
  tip.replaceChildren(element("strong", {}, lines[0]), ...lines.slice(1).map((line) => element("span", {}, line)));
  tip.hidden = false;
  const box = tip.getBoundingClientRect(), margin = 14;
  const left = x + margin + box.width > innerWidth ? x - margin - box.width : x + margin;
  const top = y + margin + box.height > innerHeight ? y - margin - box.height : y + margin;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, top)}px`;
}
