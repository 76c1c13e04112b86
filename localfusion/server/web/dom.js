// Elements and text nodes. No string is ever read as markup, and no link leaves the page.

// Terminal escapes and what turns the direction of writing: shown, they hide nothing.
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;

/** Return a text whose control and direction characters are seen instead of obeyed. */
export function visible(text) {
  return text.replaceAll("\r\n", "\n").replace(CONTROLS, picture);
}

function picture(control) {
  const code = control.charCodeAt(0);
  if (code < 0x20) return String.fromCharCode(0x2400 + code);
  if (code === 0x7f) return "\u2421";
  return `‹U+${code.toString(16).toUpperCase().padStart(4, "0")}›`;
}

/**
 * Make an element.
 * @param {string} tag
 * @param {Object<string, unknown>} attributes `on…` are listeners; null and false are left out.
 * @param {...(Node|string|number|null|undefined|false|Array)} children Strings become text nodes.
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) set(element, name, value);
  element.append(...nodes(children));
  return element;
}

/** Replace what an element holds. */
export function fill(element, ...children) {
  element.replaceChildren(...nodes(children));
  return element;
}

/** Set an attribute only if it changes, so that nothing is announced or laid out twice. */
export function set(element, name, value) {
  if (name.startsWith("on")) {
    element.addEventListener(name.slice(2), value);
    return;
  }
  if (value === null || value === undefined || value === false) {
    element.removeAttribute(name);
    return;
  }
  if (name === "href" && !`${value}`.startsWith("#")) throw new Error("links stay in the page");
  const text = value === true ? "" : visible(`${value}`);
  if (element.getAttribute(name) !== text) element.setAttribute(name, text);
}

/** Set an element's text only if it changes. */
export function say(element, text) {
  const shown = visible(text);
  if (element.textContent !== shown) element.textContent = shown;
  return element;
}

function nodes(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : document.createTextNode(visible(`${child}`))));
}

/** Return a function that runs `render` once before the next paint, however often it is called. */
export function batched(render) {
  let isAsked = false;
  return () => {
    if (isAsked) return;
    isAsked = true;
    requestAnimationFrame(() => {
      isAsked = false;
      render();
    });
  };
}

let count = 0;

/** Return an id that no other element of the page has. */
export function freshId(prefix) {
  count += 1;
  return `${prefix}-${count}`;
}
