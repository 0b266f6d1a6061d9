# SPDX-License-Identifier: GPL-2.0-or-later
"""A small QMP client for the tests, and a check of what it gets against the server's own schema."""
import array
import json
import socket
import time

from guest import SLOW, Failed, check


class QmpError(Failed):
    def __init__(self, error):
        super().__init__(f"{error['class']}: {error['desc']}")
        self.cls, self.desc = error["class"], error["desc"]


class Qmp:
    """One connection.  Events are kept in self.events."""

    def __init__(self, where, negotiate=True, oob=False, schema=None):
        self.s = socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET)
        deadline = time.monotonic() + 30 * SLOW
        while True:
            try:
                self.s.connect(where)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        self.s.settimeout(30 * SLOW)
        self.buf, self.events, self.n, self.schema = b"", [], 0, schema
        self.greeting = self.read()
        if negotiate:
            self.cmd("qmp_capabilities", **({"enable": ["oob"]} if oob else {}))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.s.close()

    def send_raw(self, data, fds=()):
        if fds:
            self.s.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
        else:
            self.s.sendall(data)

    def read(self):
        while b"\n" not in self.buf:
            data = self.s.recv(65536)
            if not data:
                raise Failed("the server closed the connection")
            self.buf += data
        line, self.buf = self.buf.split(b"\n", 1)
        return json.loads(line)

    def answer(self):
        while True:
            j = self.read()
            if "event" not in j:
                return j
            self.got_event(j)

    def got_event(self, j):
        self.events.append(j)
        if self.schema:
            self.schema.check_event(j)

    def cmd(self, name, /, _fds=(), _key="execute", **args):
        self.n += 1
        req = {_key: name, "id": self.n}
        if args:
            req["arguments"] = {k.replace("_", "-") if k not in KEEP else k: v for k, v in args.items()}
        self.send_raw(json.dumps(req).encode(), _fds)
        a = self.answer()
        check(a.get("id") == self.n, f"the answer to {req} has another id: {a}")
        if "error" in a:
            raise QmpError(a["error"])
        if self.schema:
            self.schema.check_return(name, a["return"])
        return a["return"]

    def error(self, name, /, **args):
        try:
            got = self.cmd(name, **args)
        except QmpError as e:
            return e
        raise Failed(f"{name} {args} should have failed, but returned {got}")

    def event(self, name, seconds=30, match=lambda data: True):
        """The first event of that name, past or to come."""
        deadline = time.monotonic() + seconds * SLOW
        while True:
            for e in self.events:
                if e["event"] == name and match(e.get("data", {})):
                    self.events.remove(e)
                    return e.get("data", {})
            if time.monotonic() > deadline:
                raise Failed(f"no event {name} came; there were {self.events}")
            self.s.settimeout(max(0.1, deadline - time.monotonic()))
            try:
                self.got_event(self.read())
            except socket.timeout:
                pass
            finally:
                self.s.settimeout(30 * SLOW)

    def rest(self):
        """What comes until the server closes."""
        try:
            while True:
                j = self.read()
                if "event" in j:
                    self.got_event(j)
        except (Failed, ConnectionResetError):
            return [e["event"] for e in self.events]


# Names with an underscore of their own.
KEEP = {"bps_rd", "bps_wr", "iops_rd", "iops_wr", "bps_max", "bps_rd_max", "bps_wr_max", "iops_max", "iops_rd_max",
        "iops_wr_max", "bps_max_length", "iops_max_length", "iops_size"}


class Schema:
    """query-qmp-schema, and values against it."""

    def __init__(self, entries):
        self.by_name = {e["name"]: e for e in entries}

    def check_return(self, command, value):
        self.check(self.by_name[command]["ret-type"], value, command)

    def check_event(self, e):
        check("timestamp" in e, f"an event without a time: {e}")
        self.check(self.by_name[e["event"]]["arg-type"], e.get("data", {}), e["event"])

    def check(self, name, value, path):
        t = self.by_name[name]
        kind = t["meta-type"]
        if kind == "builtin":
            ok = {"string": str, "boolean": bool, "int": int, "number": (int, float), "value": object, "null": type(None)}[t["json-type"]]
            check(isinstance(value, ok) and not (t["json-type"] == "int" and isinstance(value, bool)), f"{path}: {value!r} is no {t['json-type']}")
        elif kind == "enum":
            check(value in t["values"], f"{path}: {value!r} is not in {t['values']}")
        elif kind == "array":
            check(isinstance(value, list), f"{path}: {value!r} is no array")
            for i, v in enumerate(value):
                self.check(t["element-type"], v, f"{path}[{i}]")
        elif kind == "object":
            self.check_object(t, value, path)

    def check_object(self, t, value, path):
        check(isinstance(value, dict), f"{path}: {value!r} is no object")
        members = {m["name"]: m for m in t["members"]}
        for v in t.get("variants", []):
            if v["case"] == value.get(t["tag"]):
                members.update({m["name"]: m for m in self.by_name[v["type"]]["members"]})
        for k in value:
            check(k in members, f"{path}: {k} is not in the schema")
            self.check(members[k]["type"], value[k], f"{path}.{k}")
        for k, m in members.items():
            check(k in value or "default" in m, f"{path}: {k} is missing")
