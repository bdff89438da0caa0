"use strict";
/* The expressions that unfold's templates put into attributes (x-show="open && !busy"), read without eval.
 *
 * Alpine compiles them with `new Function`, which the Content-Security-Policy forbids. This reads the small
 * part of the language they use into closures. What an expression may reach is a list, so that an attribute that an
 * attacker gets into a page reaches neither `fetch` nor the document: of the browser's own objects only the
 * properties in REACHABLE, of other values everything but the way to their constructors.
 *
 *   program    = statement { ";" statement }
 *   statement  = "if" "(" expression ")" branch [ "else" branch ] | expression
 *   expression = name "=>" expression | choice [ "=" expression ]        choice = either [ "?" … ":" … ]
 *   then by rank: || && equality comparison sum unary member/call primary
 */
const portalExpressions = (() => {
  const TOKEN =
    /\s*(?:(\d+(?:\.\d+)?)|([A-Za-z_$][\w$]*)|('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|(===|!==|==|!=|<=|>=|&&|\|\||=>|[-+!<>=?:.,;(){}[\]]))/y;
  const ESCAPED = { n: "\n", t: "\t", r: "\r" };
  const WORDS = { true: true, false: false, null: null, undefined: undefined };
  const HIDDEN = new Set(["constructor", "prototype", "__proto__", "__defineGetter__", "__defineSetter__", "call", "apply", "bind"]);
  const REACHABLE = new Set(
    "value checked href hash pathname search location target tagName key metaKey ctrlKey shiftKey focus blur getItem setItem".split(" ")
  );
  const ASSIGNABLE = new Set(["value", "checked", "href"]);
  const RANKS = [
    { "||": (a, b) => a() || b() },
    { "&&": (a, b) => a() && b() },
    { "===": (a, b) => a() === b(), "!==": (a, b) => a() !== b(), "==": (a, b) => a() == b(), "!=": (a, b) => a() != b() },
    { "<": (a, b) => a() < b(), ">": (a, b) => a() > b(), "<=": (a, b) => a() <= b(), ">=": (a, b) => a() >= b() },
    { "+": (a, b) => a() + b(), "-": (a, b) => a() - b() },
  ];

  function tokens(text) {
    const found = [];
    TOKEN.lastIndex = 0;
    while (text.slice(TOKEN.lastIndex).trim()) {
      const match = TOKEN.exec(text);
      if (!match) throw new SyntaxError(`unreadable expression: ${text}`);
      const [, number, name, quoted, sign] = match;
      if (number) found.push({ kind: "value", value: Number(number) });
      else if (quoted) found.push({ kind: "value", value: unquoted(quoted) });
      else found.push({ kind: name ? "name" : "sign", text: name || sign });
    }
    return found;
  }

  function unquoted(text) {
    return text.slice(1, -1).replace(/\\(.)/g, (_all, letter) => ESCAPED[letter] || letter);
  }

  function reachable(thing, property, allowed) {
    const native = thing instanceof EventTarget || thing instanceof Event || thing instanceof Location || thing instanceof Storage;
    if (HIDDEN.has(property) || typeof thing === "function" || (native && !allowed.has(property))) {
      throw new TypeError(`expressions may not use ${property}`);
    }
    return property;
  }

  /* A parsed expression is a function of the names in reach; one that stands for a place also has `assign`,
   * and one that is a property has `owner`, which a call binds. */
  class Parser {
    constructor(text, globals, merge) {
      Object.assign(this, { rest: tokens(text), at: 0, globals, merge });
    }

    peek(...texts) {
      const token = this.rest[this.at];
      return token !== undefined && token.kind !== "value" && texts.includes(token.text);
    }

    take(...texts) {
      return this.peek(...texts) && this.rest[this.at++];
    }

    expect(text) {
      if (!this.take(text)) throw new SyntaxError(`expected ${text}`);
    }

    program() {
      const steps = [];
      while (this.at < this.rest.length) {
        if (this.take(";")) continue;
        steps.push(this.statement());
        if (this.at < this.rest.length && !this.peek(";")) this.expect(";");
      }
      return (names) => steps.map((step) => step(names))[steps.length - 1];
    }

    statement() {
      if (!this.take("if")) return this.expression();
      this.expect("(");
      const condition = this.expression();
      this.expect(")");
      const then = this.branch();
      const otherwise = this.take("else") ? this.branch() : () => undefined;
      return (names) => (condition(names) ? then : otherwise)(names);
    }

    branch() {
      if (!this.take("{")) return this.statement();
      const steps = [];
      while (!this.take("}")) if (!this.take(";")) steps.push(this.statement());
      return (names) => steps.forEach((step) => step(names));
    }

    expression() {
      const next = this.rest[this.at + 1];
      if (this.rest[this.at]?.kind === "name" && next?.kind === "sign" && next.text === "=>") return this.arrow();
      const place = this.choice();
      if (!this.take("=")) return place;
      if (!place.assign) throw new SyntaxError("only a name or a property can be assigned");
      const value = this.expression();
      return (names) => place.assign(names, value(names));
    }

    arrow() {
      const parameter = this.rest[this.at].text;
      this.at += 2;
      const body = this.expression();
      return (names) => (given) => body(this.merge([{ [parameter]: given }, names]));
    }

    choice() {
      const condition = this.ranked(0);
      if (!this.take("?")) return condition;
      const then = this.expression();
      this.expect(":");
      const otherwise = this.expression();
      return (names) => (condition(names) ? then : otherwise)(names);
    }

    ranked(rank) {
      if (rank === RANKS.length) return this.unary();
      let left = this.ranked(rank + 1);
      for (let sign; (sign = this.take(...Object.keys(RANKS[rank]))); ) {
        const [work, first, second] = [RANKS[rank][sign.text], left, this.ranked(rank + 1)];
        left = (names) => work(() => first(names), () => second(names));
      }
      return left;
    }

    unary() {
      const sign = this.take("!", "-");
      if (!sign) return this.chain(this.primary());
      const inner = this.unary();
      return sign.text === "!" ? (names) => !inner(names) : (names) => -inner(names);
    }

    chain(start) {
      let found = start;
      for (let sign; (sign = this.take(".", "[", "(")); ) {
        if (sign.text === "(") found = this.call(found);
        else found = this.member(found, sign.text === "." ? this.name() : this.bracket());
      }
      return found;
    }

    name() {
      const token = this.rest[this.at++];
      if (token?.kind !== "name") throw new SyntaxError("expected a name");
      return () => token.text;
    }

    bracket() {
      const key = this.expression();
      this.expect("]");
      return (names) => String(key(names));
    }

    member(owner, key) {
      const read = (thing, names) => thing[reachable(thing, key(names), REACHABLE)];
      const found = (names) => read(owner(names), names);
      found.bound = (names) => {
        const thing = owner(names);
        return [thing, read(thing, names)];
      };
      found.assign = (names, value) => {
        const thing = owner(names);
        return (thing[reachable(thing, key(names), ASSIGNABLE)] = value);
      };
      return found;
    }

    call(callee) {
      const given = this.list(")");
      return (names) => {
        const [self, work] = callee.bound ? callee.bound(names) : [names, callee(names)];
        return Reflect.apply(work, self, given.map((value) => value(names)));
      };
    }

    list(end) {
      const found = [];
      while (!this.take(end)) {
        found.push(this.expression());
        if (!this.peek(end)) this.expect(",");
      }
      return found;
    }

    primary() {
      if (this.take("(")) {
        const inner = this.expression();
        this.expect(")");
        return (names) => inner(names);
      }
      if (this.take("[")) {
        const items = this.list("]");
        return (names) => items.map((item) => item(names));
      }
      if (this.take("{")) return this.table();
      const token = this.rest[this.at++];
      if (token?.kind === "value") return () => token.value;
      if (token?.kind !== "name") throw new SyntaxError("expected a value");
      return Object.hasOwn(WORDS, token.text) ? () => WORDS[token.text] : this.variable(token.text);
    }

    variable(name) {
      const found = (names) => {
        if (name in names) return names[name];
        if (Object.hasOwn(this.globals, name)) return this.globals[name]();
        throw new ReferenceError(`expressions may not use ${name}`);
      };
      found.assign = (names, value) => (names[name] = value);
      return found;
    }

    table() {
      const entries = [];
      while (!this.take("}")) {
        const token = this.rest[this.at++];
        const key = token.kind === "value" ? String(token.value) : token.text;
        this.expect(":");
        entries.push([key, this.expression()]);
        if (!this.peek("}")) this.expect(",");
      }
      return (names) => Object.fromEntries(entries.map(([key, value]) => [key, value(names)]));
    }
  }

  const parsed = new Map();

  /* Return the closure of an expression; each text is read once. `globals` maps a name to a function that gives it. */
  function read(text, globals, merge) {
    if (!parsed.has(text)) parsed.set(text, new Parser(text, globals, merge).program());
    return parsed.get(text);
  }

  return { read };
})();
