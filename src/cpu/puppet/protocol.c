/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The puppet's line protocol (docs/puppet.md): one command a line, one reply a
 * line, "OK ..." or "ERR ...".  The peer is a test, but its bytes are checked
 * all the same: a line too long ends the connection.
 */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bits.h"
#include "cpu/puppet/impl.h"

#define MAX_BYTES 4096u
#define LINE_MAX_LEN (2 * MAX_BYTES + 256)
#define MAX_ARGS 3

struct call {
	struct cpu_engine *e;
	unsigned len;			/* access size of the command */
	uint64_t a[MAX_ARGS];
	const char *text;		/* the last argument as it came */
	char *reply;
	size_t room;
};

static int say(struct call *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int say(struct call *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(c->reply, c->room, fmt, ap);
	va_end(ap);
	return 0;
}

static int say_value(struct call *c, int r, uint64_t v)
{
	return say(c, "OK 0x%llx%s", (unsigned long long)v, r == -ENXIO ? " none" : "");
}

static int do_in(struct call *c)
{
	uint64_t v = 0;
	int r = puppet_pio(c->e, (uint16_t)c->a[0], &v, c->len, false);

	return say_value(c, r, v);
}

static int do_out(struct call *c)
{
	int r = puppet_pio(c->e, (uint16_t)c->a[0], &c->a[1], c->len, true);

	return say(c, "OK%s", r == -ENXIO ? " none" : "");
}

static int do_read(struct call *c)
{
	uint64_t v = 0;
	int r = puppet_access(c->e, c->a[0], &v, c->len, false);

	return say_value(c, r, v);
}

static int do_write(struct call *c)
{
	int r = puppet_access(c->e, c->a[0], &c->a[1], c->len, true);

	return say(c, "OK%s", r == -ENXIO ? " none" : "");
}

static int do_memread(struct call *c)
{
	uint8_t buf[MAX_BYTES];
	int n;

	if (!c->a[1] || c->a[1] > MAX_BYTES)
		return say(c, "ERR 1 to %u bytes at a time", MAX_BYTES);
	if (mem_read(c->e->m->mem, c->a[0], buf, c->a[1]))
		return say(c, "ERR not memory");
	n = snprintf(c->reply, c->room, "OK ");
	for (size_t i = 0; i < c->a[1] && (size_t)n + 3 < c->room; i++)
		n += snprintf(c->reply + n, c->room - (size_t)n, "%02x", buf[i]);
	return 0;
}

static int hex(char ch)
{
	if (ch >= '0' && ch <= '9')
		return ch - '0';
	if (ch >= 'a' && ch <= 'f')
		return ch - 'a' + 10;
	return -1;
}

static int do_memwrite(struct call *c)
{
	uint8_t buf[MAX_BYTES];
	size_t n = strlen(c->text);

	if (!n || n % 2 || n / 2 > MAX_BYTES)
		return say(c, "ERR 1 to %u bytes as pairs of hex digits", MAX_BYTES);
	for (size_t i = 0; i < n / 2; i++) {
		int hi = hex(c->text[2 * i]), lo = hex(c->text[2 * i + 1]);

		if (hi < 0 || lo < 0)
			return say(c, "ERR not a hex digit");
		buf[i] = (uint8_t)(hi << 4 | lo);
	}
	if (mem_write(c->e->m->mem, c->a[0], buf, n / 2))
		return say(c, "ERR not memory");
	return say(c, "OK");
}

static int do_irq(struct call *c)
{
	int v = puppet_irq(c->e);

	return v < 0 ? say(c, "OK none") : say(c, "OK 0x%x", (unsigned)v);
}

static int do_msi(struct call *c)
{
	struct msi m;

	if (!puppet_msi_pop(c->e, &m))
		return say(c, "OK none");
	return say(c, "OK 0x%llx 0x%x", (unsigned long long)m.addr, m.data);
}

static int do_wire(struct call *c)
{
	return say(c, "OK %d", puppet_wire_level(c->e, (unsigned)MIN(c->a[0], UINT32_MAX)));
}

static int do_msr(struct call *c)
{
	struct vcpu *v = c->e->m->vcpus[0];
	uint64_t val = 0;

	if (!v || !v->intc || v->intc->msr_read(v->intc_opaque, (uint32_t)c->a[0], &val))
		return say(c, "ERR #GP");
	return say_value(c, 0, val);
}

static int do_wrmsr(struct call *c)
{
	struct vcpu *v = c->e->m->vcpus[0];

	if (!v || !v->intc || v->intc->msr_write(v->intc_opaque, (uint32_t)c->a[0], c->a[1]))
		return say(c, "ERR #GP");
	return say(c, "OK");
}

static int do_clock(struct call *c)
{
	struct machine *m = c->e->m;

	machine_lock(m);
	if (c->a[0])
		clock_step(m->clock, (int64_t)MIN(c->a[0], (uint64_t)INT64_MAX));
	machine_unlock(m);
	return say(c, "OK %lld", (long long)clock_now(m->clock));
}

static int do_reset(struct call *c)
{
	machine_lock(c->e->m);
	machine_reset_devs(c->e->m);
	machine_unlock(c->e->m);
	return say(c, "OK");
}

static int do_quit(struct call *c)
{
	say(c, "OK");
	return -ESHUTDOWN;
}

static const struct command {
	const char *name;
	unsigned args, len;
	bool text;			/* the last argument is no number */
	int (*fn)(struct call *c);
} commands[] = {
	{ "inb", 1, 1, false, do_in }, { "inw", 1, 2, false, do_in }, { "inl", 1, 4, false, do_in },
	{ "outb", 2, 1, false, do_out }, { "outw", 2, 2, false, do_out }, { "outl", 2, 4, false, do_out },
	{ "readb", 1, 1, false, do_read }, { "readw", 1, 2, false, do_read },
	{ "readl", 1, 4, false, do_read }, { "readq", 1, 8, false, do_read },
	{ "writeb", 2, 1, false, do_write }, { "writew", 2, 2, false, do_write },
	{ "writel", 2, 4, false, do_write }, { "writeq", 2, 8, false, do_write },
	{ "memread", 2, 0, false, do_memread }, { "memwrite", 2, 0, true, do_memwrite },
	{ "irq", 0, 0, false, do_irq }, { "msi", 0, 0, false, do_msi }, { "wire", 1, 0, false, do_wire },
	{ "rdmsr", 1, 0, false, do_msr }, { "wrmsr", 2, 0, false, do_wrmsr },
	{ "clock", 0, 0, false, do_clock }, { "clock_step", 1, 0, false, do_clock },
	{ "reset", 0, 0, false, do_reset }, { "quit", 0, 0, false, do_quit },
};

static bool number(const char *s, uint64_t *out)
{
	char *end;

	if (*s < '0' || *s > '9')
		return false;
	errno = 0;
	*out = strtoull(s, &end, 0);
	return !*end && !errno;
}

static int run(const struct command *cmd, struct call *c, char **save)
{
	for (unsigned i = 0; i < cmd->args; i++) {
		const char *word = strtok_r(NULL, " ", save);

		if (!word)
			return say(c, "ERR %s takes %u arguments", cmd->name, cmd->args);
		c->text = word;
		if (cmd->text && i == cmd->args - 1)
			continue;
		if (!number(word, &c->a[i]))
			return say(c, "ERR not a number: %.40s", word);
	}
	if (strtok_r(NULL, " ", save))
		return say(c, "ERR %s takes %u arguments", cmd->name, cmd->args);
	return cmd->fn(c);
}

int puppet_command(struct cpu_engine *e, const char *line, char *reply, size_t len)
{
	struct call c = { .e = e, .text = "", .reply = reply, .room = len };
	char copy[LINE_MAX_LEN], *save, *word;

	snprintf(copy, sizeof(copy), "%s", line);
	word = strtok_r(copy, " \r", &save);
	if (!word)
		return say(&c, "ERR empty line");
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		if (!strcmp(commands[i].name, word)) {
			c.len = commands[i].len;
			return run(&commands[i], &c, &save);
		}
	return say(&c, "ERR unknown command: %.40s", word);
}

static int send_all(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t w = send(fd, p, n, MSG_NOSIGNAL);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return -EPIPE;
		p += w;
		n -= (size_t)w;
	}
	return 0;
}

/* Executes all whole lines in buf; *len becomes what is left of the last. */
static int run_lines(struct cpu_engine *e, int fd, char *buf, size_t *len)
{
	char reply[LINE_MAX_LEN + 1];
	char *nl, *p = buf;
	size_t n;
	int r = 0;

	while (!r && (nl = memchr(p, '\n', *len - (size_t)(p - buf)))) {
		*nl = '\0';
		r = puppet_command(e, p, reply, LINE_MAX_LEN);
		n = strlen(reply);
		reply[n] = '\n';
		if (send_all(fd, reply, n + 1))
			return -EPIPE;
		p = nl + 1;
	}
	*len -= (size_t)(p - buf);
	memmove(buf, p, *len);
	return r;
}

int puppet_serve(struct cpu_engine *e, int fd)
{
	struct vcpu *v = e->m->vcpus[0];
	struct pollfd p[2] = { { .fd = fd, .events = POLLIN },
			       { .fd = puppet_wake_fd(e), .events = POLLIN } };
	char buf[LINE_MAX_LEN];
	size_t len = 0;
	uint64_t woken;
	ssize_t n;
	int r = 0;

	while (!r) {
		if (v && atomic_load(&v->events) & VCPU_EV_STOP)
			return -EINTR;
		if (poll(p, 2, -1) < 0)
			continue;
		if (p[1].revents && read(p[1].fd, &woken, sizeof(woken)) < 0)
			continue;
		if (!p[0].revents)
			continue;
		n = read(fd, buf + len, sizeof(buf) - len);
		if (n <= 0)
			return n < 0 && errno == EINTR ? -EINTR : 0;
		len += (size_t)n;
		r = run_lines(e, fd, buf, &len);
		if (len == sizeof(buf))
			return -EMSGSIZE;
	}
	return r;
}
