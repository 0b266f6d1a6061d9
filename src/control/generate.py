#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes the control protocol's C tables, its introspection and its manual from schema.txt.

usage: generate.py header|source|manual SCHEMA... OUTPUT

The schema is lines.  A definition begins in the first column; what belongs to it is indented; a line
that begins with '|' is its documentation, and so is what follows a ' | ' of a member:

    enum NAME = VALUE ...                     (goes on in indented lines)
    struct NAME [: BASE]                      members follow
    union NAME : BASE by MEMBER               lines "VALUE -> STRUCT" follow; BASE holds the enum MEMBER
    alternate NAME = TYPE TYPE ...            by the JSON type
    command NAME [oob] [ours] [open] [of TYPE] [-> TYPE]   its arguments follow, or are those of a struct or union;
                                              open: and others, which the handler looks at
    event NAME [ours] [limited]               its data follow; limited: once a second at most

A member is "name: type" or "name?: type" if it is optional.  Types are str, int, uint8, uint16, uint32,
uint64 (up to 2^63-1), bool, number, null, any, a name, or [TYPE].  `ours` are those QEMU has not;
their names begin with x-lodge- or X_LODGE_.
"""
import json
import re
import sys

BUILTIN = {
    "str": ("CTL_STR", "string"), "bool": ("CTL_BOOL", "boolean"), "number": ("CTL_NUMBER", "number"),
    "null": ("CTL_NULL", "null"), "any": ("CTL_ANY", "value"), "int": ("CTL_INT", "int"),
    "uint8": ("CTL_INT", "int"), "uint16": ("CTL_INT", "int"), "uint32": ("CTL_INT", "int"), "uint64": ("CTL_INT", "int"),
}
RANGE = {"int": ("INT64_MIN", "INT64_MAX"), "uint8": ("0", "UINT8_MAX"), "uint16": ("0", "UINT16_MAX"),
         "uint32": ("0", "UINT32_MAX"), "uint64": ("0", "INT64_MAX")}
KEYWORDS = {"default", "static", "switch", "case", "register", "if", "else", "for", "do", "return", "auto", "long", "short"}


class Bad(Exception):
    pass


class Def:
    def __init__(self, kind, name):
        self.kind, self.name = kind, name
        self.doc, self.members, self.values, self.variants, self.branches = [], [], [], [], []
        self.base = self.tag = self.ret = self.boxed = None
        self.flags = set()


def parse_head(line):
    m = re.match(r"(enum|struct|union|alternate|command|event) ([A-Za-z][\w-]*)(.*)$", line)
    if not m:
        raise Bad("not a definition")
    d = Def(m.group(1), m.group(2))
    rest = m.group(3).strip()
    if d.kind in ("enum", "alternate"):
        words = rest.split()
        if not words or words[0] != "=":
            raise Bad("= is missing")
        (d.values if d.kind == "enum" else d.branches).extend(words[1:])
    elif d.kind == "struct" and rest:
        d.base = re.fullmatch(r": (\w+)", rest).group(1)
    elif d.kind == "union":
        d.base, d.tag = re.fullmatch(r": (\w+) by ([\w-]+)", rest).groups()
    elif d.kind in ("command", "event"):
        flags, _, ret = rest.partition("->")
        flags, _, d.boxed = (" " + flags).partition(" of ")
        d.flags, d.ret, d.boxed = set(flags.split()), ret.strip() or None, d.boxed.strip() or None
        if d.flags - {"oob", "ours", "limited", "open"}:
            raise Bad(f"unknown flag {d.flags}")
        if ("ours" in d.flags) != d.name.lower().replace("_", "-").startswith("x-lodge-"):
            raise Bad("'ours' and the prefix x-lodge- go together")
    return d


def parse_line(d, line):
    text, _, doc = line.strip().partition(" | ")
    if d.kind == "enum":
        d.values.extend(text.split())
    elif d.kind == "union":
        d.variants.append(tuple(re.fullmatch(r"([\w-]+) -> (\w+)", text.strip()).groups()))
    else:
        m = re.fullmatch(r"([A-Za-z][\w-]*)(\??): (\[?[\w]+\]?)", text.strip())
        if not m:
            raise Bad("not a member")
        d.members.append((m.group(1), m.group(3), m.group(2) == "?", doc.strip()))


def parse(paths):
    defs = {}
    for path in paths:
        parse_file(path, defs)
    check(paths[-1], defs)
    return defs


def parse_file(path, defs):
    d = None
    with open(path, encoding="utf-8") as f:
        for no, line in enumerate(f, 1):
            line = line.rstrip()
            try:
                if not line or line.startswith("#"):
                    continue
                if line.startswith("|"):
                    d.doc.append(line[1:].strip())
                elif line[0] in " \t":
                    parse_line(d, line)
                else:
                    d = parse_head(line)
                    if d.name in defs:
                        raise Bad("defined twice")
                    defs[d.name] = d
            except (Bad, AttributeError) as e:
                sys.exit(f"{path}:{no}: {e}: {line}")


def element(t):
    return t[1:-1] if t.startswith("[") else None


def check(path, defs):
    def known(t):
        t = element(t) or t
        if t not in BUILTIN and (t not in defs or defs[t].kind in ("command", "event")):
            sys.exit(f"{path}: {d.name}: unknown type {t}")
    for d in defs.values():
        for _, t, _, _ in d.members:
            known(t)
        for t in [d.base, d.ret, d.boxed] + d.branches + [v for _, v in d.variants]:
            if t:
                known(t)
        if d.kind in ("command", "event") and not d.doc:
            sys.exit(f"{path}: {d.name} is not documented")


def members(defs, d):
    return (members(defs, defs[d.base]) if d.base else []) + d.members


def c_name(name):
    name = re.sub(r"[^A-Za-z0-9]", "_", name)
    return name + "_" if name in KEYWORDS else name


def snake(name):
    return c_name(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)).lower()


def type_ref(t):
    e = element(t)
    return f"&ctl_list_{c_name(e)}" if e else f"&ctl_type_{c_name(t)}"


def of_kind(defs, *kinds):
    return [d for d in defs.values() if d.kind in kinds]


# ---- what the rest of the program sees ----

def field_of(defs, name, t):
    n = c_name(name)
    if t == "str":
        return [f"const char *{n};"]
    if t in BUILTIN and BUILTIN[t][0] == "CTL_INT":
        return [f"int64_t {n};"]
    if t == "bool":
        return [f"bool {n};"]
    if t == "number":
        return [f"double {n};"]
    if t in defs and defs[t].kind == "enum":
        return [f"enum ctl_{snake(t)} {n};"]
    return [f"json_t *{n};"]


def by_pointer(defs, t):
    return field_of(defs, "x", t)[0].split()[0] in ("const", "json_t")


def header(defs):
    out = ["/* SPDX-License-Identifier: GPL-2.0-or-later */", "/* Made from schema.txt by generate.py. */",
           "#ifndef LODGE_CONTROL_SCHEMA_GEN_H", "#define LODGE_CONTROL_SCHEMA_GEN_H", "",
           '#include "control/schema.h"', ""]
    for d in of_kind(defs, "enum"):
        names = [f"CTL_{snake(d.name).upper()}_{c_name(v).upper()}" for v in d.values]
        out += [f"enum ctl_{snake(d.name)} {{ {', '.join(names)} }};"]
    for d in of_kind(defs, "enum", "struct", "union", "alternate"):
        out.append(f"extern const struct ctl_type ctl_type_{c_name(d.name)};")
    out += ["", "enum ctl_event {"] + [f"\tCTL_EVENT_{c_name(d.name)}," for d in of_kind(defs, "event")] + ["\tCTL_EVENTS", "};", ""]
    out += ["/* Arguments as handlers get them: checked; text and JSON live as long as the call.  Of what is optional,",
            " * pointers are NULL if it was not given, and has_NAME tells of the rest. */"]
    for d in of_kind(defs, "command"):
        out.append(f"struct ctl_args_{c_name(d.name)} {{")
        for name, t, optional, _ in arguments(defs, d):
            if optional and not by_pointer(defs, t):
                out.append(f"\tbool has_{c_name(name)};")
            out += ["\t" + x for x in field_of(defs, name, t)]
        if is_boxed(defs, d):
            out.append("\tjson_t *all;")
        elif not arguments(defs, d):
            out.append("\tchar none;")
        out += ["};", f"void ctl_cmd_{c_name(d.name)}(struct ctl_call *c, const struct ctl_args_{c_name(d.name)} *a);"]
    return "\n".join(out + ["", "#endif", ""])


def text(s):
    return '"' + s.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def type_defs(defs):
    out = []
    names = of_kind(defs, "enum", "struct", "union", "alternate")
    lists = sorted({element(t) for d in defs.values() for t in [m[1] for m in d.members] + [d.ret or ""] + d.branches if element(t)})
    for t, (kind, _) in BUILTIN.items():
        low, high = RANGE.get(t, ("0", "0"))
        out.append(f"static const struct ctl_type ctl_type_{t} __attribute__((unused)) = "
                   f"{{ .kind = {kind}, .name = {text(t)}, .min = {low}, .max = {high} }};")
    out += [f"static const struct ctl_type ctl_list_{c_name(e)} __attribute__((unused)) = {{ .kind = CTL_LIST, .name = \"array\", "
            f".element = {type_ref(e)} }};" for e in lists]
    for d in names:
        n = c_name(d.name)
        if d.kind == "enum":
            out.append(f"static const char *const values_{n}[] = {{ {', '.join(text(v) for v in d.values)}, NULL }};")
            out.append(f"const struct ctl_type ctl_type_{n} = {{ .kind = CTL_ENUM, .name = {text(d.name)}, .values = values_{n} }};")
        elif d.kind == "alternate":
            out.append(f"static const struct ctl_member members_{n}[] = {{ "
                       + ", ".join(f"{{ .name = {text(b)}, .type = {type_ref(b)} }}" for b in d.branches) + ", { NULL } };")
            out.append(f"const struct ctl_type ctl_type_{n} = {{ .kind = CTL_ALTERNATE, .name = {text(d.name)}, .members = members_{n} }};")
        else:
            out += struct_def(defs, d, n, True)
    return out


def struct_def(defs, d, n, public):
    out = [f"static const struct ctl_member members_{n}[] = {{"]
    out += [f"\t{{ {text(name)}, {type_ref(t)}, {'true' if o else 'false'} }}," for name, t, o, _ in members(defs, d)]
    out.append("\t{ NULL }\n};")
    more = ""
    if d.kind == "union":
        out.append(f"static const struct ctl_variant variants_{n}[] = {{ "
                   + ", ".join(f"{{ {text(v)}, {type_ref(t)} }}" for v, t in d.variants) + ", { NULL } };")
        more = f", .tag = {text(d.tag)}, .variants = variants_{n}"
    if "open" in d.flags:
        more += ", .open = true"
    out.append(f"{'' if public else 'static '}const struct ctl_type ctl_type_{n} = {{ .kind = CTL_STRUCT, .name = {text(d.name)}, "
               f".members = members_{n}{more} }};")
    return out


def getter(defs, name, t, optional):
    n = c_name(name)
    has = f"a.has_{n} = " if optional and not by_pointer(defs, t) else ""
    if t == "str":
        return f"a.{n} = json_string_value(json_object_get(in, {text(name)}));"
    if by_pointer(defs, t):
        return f"a.{n} = json_object_get(in, {text(name)});"
    if t in defs and defs[t].kind == "enum":
        v = f"(enum ctl_{snake(t)})ctl_enum({type_ref(t)}, json_string_value(v))"
    elif t == "bool":
        v = "json_is_true(v)"
    elif t == "number":
        v = "json_number_value(v)"
    else:
        v = "json_integer_value(v)"
    return f"v = json_object_get(in, {text(name)});\n\t{has}{'v != NULL' if has else '(void)v'};\n\tif (v)\n\t\ta.{n} = {v};"


def is_boxed(defs, d):
    """Handlers get the JSON object as it is."""
    return d.boxed and defs[d.boxed].kind == "union"


def arguments(defs, d):
    if is_boxed(defs, d):
        return []
    return members(defs, defs[d.boxed]) if d.boxed else d.members


def args_of(d):
    return f"&ctl_type_{c_name(d.boxed)}" if d.boxed else f"&ctl_type_args_{c_name(d.name)}"


def source(defs):
    out = ["// SPDX-License-Identifier: GPL-2.0-or-later", "/* Made from schema.txt by generate.py. */",
           '#include "control/schema_gen.h"', "", "#include <stddef.h>", ""]
    for d in of_kind(defs, "struct", "union", "alternate", "enum"):
        pass
    out += type_defs(defs)
    commands = of_kind(defs, "command")
    for d in commands:
        n = c_name(d.name)
        out += [] if d.boxed else struct_def(defs, d, "args_" + n, False)
        out += [f"static void run_{n}(struct ctl_call *c, json_t *in)", "{", f"\tstruct ctl_args_{n} a = {{ 0 }};"]
        if any(not by_pointer(defs, t) for _, t, _, _ in arguments(defs, d)):
            out.append("\tjson_t *v;")
        out.append("")
        out += ["\t" + getter(defs, name, t, o) for name, t, o, _ in arguments(defs, d)]
        out += ["\ta.all = in;"] if is_boxed(defs, d) else []
        out += [f"\tctl_cmd_{n}(c, &a);", "}"]
    out.append("const struct ctl_command ctl_commands[] = {")
    for d in sorted(commands, key=lambda x: x.name):
        out.append(f"\t{{ .name = {text(d.name)}, .args = {args_of(d)}, .run = run_{c_name(d.name)}, "
                   f".oob = {'true' if 'oob' in d.flags else 'false'} }},")
    out += ["};", f"const size_t ctl_n_commands = {len(commands)};"]
    out.append("const struct ctl_event_info ctl_events[] = {")
    out += [f"\t{{ {text(d.name)}, {'true' if 'limited' in d.flags else 'false'} }}," for d in of_kind(defs, "event")]
    out += ["};", "const char ctl_schema_json[] ="]
    schema = json.dumps(introspect(defs), separators=(",", ":"))
    out += ["\t" + text(schema[i:i + 100]) for i in range(0, len(schema), 100)]
    return "\n".join(out) + ";\n"


# ---- query-qmp-schema ----

class Introspection:
    """Types by QEMU's rules: built-in ones keep their names, the rest are numbers, in the order they are met."""

    def __init__(self, defs):
        self.defs, self.numbers, self.out, self.done = defs, {}, [], set()

    def name(self, t):
        e = element(t)
        if e:
            inner = self.name(e)
            self.emit(f"[{inner}]", {"element-type": inner, "meta-type": "array"})
            return f"[{inner}]"
        if t in BUILTIN:
            n = {"CTL_INT": "int"}.get(BUILTIN[t][0], t)
            self.emit(n, {"json-type": BUILTIN[t][1], "meta-type": "builtin"})
            return n
        if t not in self.numbers:
            self.numbers[t] = str(len(self.numbers))
            self.define(self.numbers[t], self.defs[t])
        return self.numbers[t]

    def emit(self, name, entry):
        if name not in self.done:
            self.done.add(name)
            self.out.append({"name": name, **entry})

    def object(self, d):
        entry = {"members": [{"name": n, "type": self.name(t), **({"default": None} if o else {})}
                             for n, t, o, _ in members(self.defs, d)], "meta-type": "object"}
        if d.kind == "union":
            entry["tag"] = d.tag
            entry["variants"] = [{"case": v, "type": self.name(t)} for v, t in d.variants]
        return entry

    def define(self, number, d):
        if d.kind == "enum":
            self.emit(number, {"meta-type": "enum", "members": [{"name": v} for v in d.values], "values": d.values})
        elif d.kind == "alternate":
            self.emit(number, {"meta-type": "alternate", "members": [{"type": self.name(b)} for b in d.branches]})
        else:
            self.emit(number, self.object(d))

    def anonymous(self, d):
        """The arguments of a command or the data of an event."""
        if not d.members:
            key = "(empty)"
        else:
            key = f"({d.kind} {d.name})"
        if key not in self.numbers:
            self.numbers[key] = str(len(self.numbers))
            self.emit(self.numbers[key], self.object(d))
        return self.numbers[key]


def introspect(defs):
    i = Introspection(defs)
    empty = Def("struct", "empty")
    for d in of_kind(defs, "command", "event"):
        entry = {"meta-type": d.kind, "arg-type": i.name(d.boxed) if d.boxed else i.anonymous(d)}
        if d.kind == "command":
            entry["ret-type"] = i.name(d.ret) if d.ret else i.anonymous(empty)
            if "oob" in d.flags:
                entry["allow-oob"] = True
        i.out.append({"name": d.name, **entry})
    return i.out


# ---- the manual ----

def manual_members(defs, d, out):
    for name, t, optional, doc in members(defs, d):
        shown = t if element(t) or t in BUILTIN else f"[{t}](#{t.lower()})"
        if element(t) and element(t) not in BUILTIN:
            shown = f"array of [{element(t)}](#{element(t).lower()})"
        out.append(f"- `{name}`: {shown}{', optional' if optional else ''}{'. ' + doc if doc else ''}")
    for value, t in d.variants:
        out.append(f"- if `{d.tag}` is `{value}`, also the members of [{t}](#{t.lower()})")


def manual(defs):
    out = ["# Lodge's control protocol", "",
           "Made from `src/control/schema*.txt`; do not edit. The protocol is QMP: what it looks like on the wire, and how to reach "
           "it, is in lodge-qmp(1). Where a command is marked *ours*, QEMU has no such command.", ""]
    for kind, title in (("command", "Commands"), ("event", "Events"), ("types", "Types")):
        out += [f"## {title}", ""]
        chosen = of_kind(defs, kind) if kind != "types" else of_kind(defs, "enum", "struct", "union", "alternate")
        for d in sorted(chosen, key=lambda x: x.name.lower()):
            marks = "".join(f" ({m})" for m in ("ours", "oob", "limited") if m in d.flags)
            out += [f"### {d.name}{marks}" if kind != "types" else f"### {d.name}", ""]
            if d.doc:
                out += [" ".join(d.doc), ""]
            if d.values:
                out += [f"One of {', '.join(f'`{v}`' for v in d.values)}.", ""]
            if d.branches:
                out += [f"Either of {', '.join(d.branches)}.", ""]
            before = len(out)
            manual_members(defs, d, out)
            if d.boxed:
                out.append(f"Arguments: those of [{d.boxed}](#{d.boxed.lower()}).")
            if len(out) > before:
                out.append("")
            if d.ret:
                e = element(d.ret)
                out += [f"Returns {'an array of ' if e else ''}{e or d.ret}.", ""]
    return "\n".join(out)


def main():
    what, paths, to = sys.argv[1], sys.argv[2:-1], sys.argv[-1]
    made = {"header": header, "source": source, "manual": manual}[what](parse(paths))
    with open(to, "w", encoding="utf-8") as f:
        f.write(made)


main()
