// SPDX-License-Identifier: GPL-2.0-or-later
/* What gdb's packets ask for. The VM stands still. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "control/gdb_int.h"

#define PIECE 512u			/* of memory, at a time */

static void ok(struct gdb *g) { gdb_put(g, "OK"); }
/* The number means nothing to gdb; it is errno's. */
static void fail(struct gdb *g, int err) { gdb_put(g, "E%02x", (unsigned)(err < 0 ? -err : err) & 0xff); }

static void done(struct gdb *g, int ret)
{
	if (ret)
		fail(g, ret);
	else
		ok(g);
}

/* A hexadecimal number at *p, which moves behind it; false: none, or more than 64 bits. */
static bool number(char **p, uint64_t *out)
{
	char *end = *p;

	while ((*end >= '0' && *end <= '9') || (*end >= 'a' && *end <= 'f') || (*end >= 'A' && *end <= 'F'))
		end++;
	if (end == *p || end - *p > 16)
		return false;
	*out = strtoull(*p, NULL, 16);
	*p = end;
	return true;
}

static bool expect(char **p, char c)
{
	if (**p != c)
		return false;
	++*p;
	return true;
}

/* "ADDR,LEN" */
static bool range(char **p, uint64_t *addr, uint64_t *len)
{
	return number(p, addr) && expect(p, ',') && number(p, len);
}

/* A thread's number: vCPU + 1; -1 all and 0 any leave what it was. */
static bool thread(struct gdb *g, char *p)
{
	uint64_t n;

	if (!strcmp(p, "-1"))
		return true;
	if (!number(&p, &n) || *p || (n && (n > g->ctl->m->n_vcpus || !vm_has_cpu(g->ctl->vm, (unsigned)n - 1))))
		return false;
	if (n)
		g->thread = (unsigned)n - 1;
	return true;
}

void gdb_put_stop(struct gdb *g)
{
	static const char *const watch[] = { [CPU_DEBUG_WRITE] = "watch", [CPU_DEBUG_READ] = "rwatch", [CPU_DEBUG_ACCESS] = "awatch" };
	const struct cpu_debug_stop *why;
	int vcpu = vm_debug_stopped(g->ctl->vm, &why);

	if (vcpu >= 0)
		g->thread = (unsigned)vcpu;
	gdb_put(g, "T%02x", g->interrupted ? 2u : 5u);
	if (vcpu >= 0 && why->why == CPU_STOP_INT3)
		gdb_put(g, "swbreak:;");
	else if (vcpu >= 0 && why->why == CPU_STOP_EXEC)
		gdb_put(g, "hwbreak:;");
	else if (vcpu >= 0 && why->why == CPU_STOP_DATA)
		gdb_put(g, "%s:%" PRIx64 ";", watch[why->kind], why->lin);
	gdb_put(g, "thread:%02x;", g->thread + 1);
}

/* ---- registers ---- */

static void all_regs(struct gdb *g)
{
	struct x86_state s;
	uint8_t raw[32];
	int ret = vm_vcpu_state(g->ctl->vm, g->thread, &s);

	if (ret) {
		fail(g, ret);
		return;
	}
	for (unsigned i = 0; i < gdb_regs(); i++) {
		gdb_reg_get(&s, i, raw);
		gdb_put_hex(g, raw, gdb_reg_bytes(i));
	}
}

static void set_all_regs(struct gdb *g, char *p)
{
	struct x86_state s;
	uint8_t raw[32];
	int ret = vm_vcpu_state(g->ctl->vm, g->thread, &s);

	for (unsigned i = 0; i < gdb_regs() && !ret; i++) {
		unsigned n = gdb_reg_bytes(i);

		if (gdb_hex(p, raw, n) != n)
			break;		/* it may stop early */
		gdb_reg_set(&s, i, raw);
		p += (size_t)2 * n;
	}
	done(g, ret ? ret : vm_vcpu_set_state(g->ctl->vm, g->thread, &s));
}

static void one_reg(struct gdb *g, char *p, bool set)
{
	struct x86_state s;
	uint8_t raw[32];
	uint64_t n;
	int ret;

	if (!number(&p, &n) || n >= gdb_regs() || (set && !expect(&p, '=')) ||
	    (set && gdb_hex(p, raw, gdb_reg_bytes((unsigned)n)) != gdb_reg_bytes((unsigned)n))) {
		fail(g, EINVAL);
		return;
	}
	ret = vm_vcpu_state(g->ctl->vm, g->thread, &s);
	if (ret) {
		fail(g, ret);
	} else if (set) {
		gdb_reg_set(&s, (unsigned)n, raw);
		done(g, vm_vcpu_set_state(g->ctl->vm, g->thread, &s));
	} else {
		gdb_reg_get(&s, (unsigned)n, raw);
		gdb_put_hex(g, raw, gdb_reg_bytes((unsigned)n));
	}
}

/* ---- memory ---- */

static void read_memory(struct gdb *g, char *p)
{
	uint64_t addr, len, at = 0;
	uint8_t buf[PIECE];

	if (!range(&p, &addr, &len)) {
		fail(g, EINVAL);
		return;
	}
	len = MIN(len, (uint64_t)GDB_PACKET / 2);
	while (at < len) {
		size_t want = MIN(len - at, sizeof(buf)), n = gdb_read(g, addr + at, buf, want);

		gdb_put_hex(g, buf, n);
		at += n;
		if (n < want)
			break;
	}
	if (len && !at)
		fail(g, EFAULT);
}

static void write_memory(struct gdb *g, char *p, const char *end, bool binary)
{
	uint8_t *buf = NULL;
	uint64_t addr, len;
	bool good = range(&p, &addr, &len) && expect(&p, ':') && len <= GDB_PACKET;

	if (good && binary) {
		good = len <= (size_t)(end - p) && gdb_write(g, addr, (const uint8_t *)p, len);
	} else if (good) {
		buf = malloc(len + 1);
		good = buf && gdb_hex(p, buf, len) == len && gdb_write(g, addr, buf, len);
	}
	free(buf);
	done(g, good ? 0 : EFAULT);
}

static void breakpoint(struct gdb *g, char *p, bool add)
{
	uint64_t type, addr, len;

	if (!number(&p, &type) || type > 4 || !expect(&p, ',') || !range(&p, &addr, &len)) {
		fail(g, EINVAL);
		return;
	}
	len = MIN(len, (uint64_t)UINT32_MAX);
	done(g, add ? gdb_break_add(g, (unsigned)type, addr, (uint32_t)len) : gdb_break_del(g, (unsigned)type, addr, (uint32_t)len));
}

/* ---- going on ---- */

/* c and s, with an address to go on at. */
static void resume_at(struct gdb *g, char *p, bool step)
{
	struct x86_state s;
	uint64_t rip;

	if (*p && number(&p, &rip) && !vm_vcpu_state(g->ctl->vm, g->thread, &s)) {
		s.rip = rip;
		vm_vcpu_set_state(g->ctl->vm, g->thread, &s);
	}
	gdb_go(g, step ? (int)g->thread : -1);
}

/* "vCont;s:2;c": the first action that is a step is done, alone; else all go. */
static bool vcont(struct gdb *g, char *p)
{
	char *save = NULL;
	int step = -1;
	bool go = false;

	for (char *a = strtok_r(p, ";", &save); a; a = strtok_r(NULL, ";", &save)) {
		char *who = strchr(a, ':');

		if (who && !thread(g, who + 1))
			return fail(g, EINVAL), true;
		if ((*a == 's' || *a == 'S') && step < 0)
			step = (int)g->thread;
		else if (*a != 'c' && *a != 'C' && *a != 's' && *a != 'S')
			return fail(g, EINVAL), true;
		go = true;
	}
	if (!go)
		return fail(g, EINVAL), true;
	gdb_go(g, step);
	return !g->running;
}

/* ---- queries ---- */

static void features(struct gdb *g, char *p)
{
	static const char name[] = "target.xml:";
	uint64_t off, len;
	size_t total;

	if (strncmp(p, name, sizeof(name) - 1) != 0) {
		gdb_put(g, "E00");
		return;
	}
	p += sizeof(name) - 1;
	if (!range(&p, &off, &len) || !g->xml) {
		fail(g, EINVAL);
		return;
	}
	total = strlen(g->xml);
	off = MIN(off, total);
	len = MIN(MIN(len, total - off), GDB_PACKET - 1);
	gdb_put(g, "%c%.*s", off + len == total ? 'l' : 'm', (int)len, g->xml + off);
}

/* What a line prints; gdb does not wait for one that takes time, and does not hear what became of it. */
struct printed {
	char *text;
	bool done, late;
};

static void on_text(void *opaque, char *text)
{
	struct printed *p = opaque;

	p->text = text;
	p->done = true;
	if (!p->late)
		return;
	free(text);
	free(p);
}

static void monitor(struct gdb *g, const char *hex)
{
	static const char takes_time[] = "under way; another monitor shows what becomes of it\n";
	struct printed *p = calloc(1, sizeof(*p));
	char line[512] = "";
	size_t n = gdb_hex(hex, (uint8_t *)line, sizeof(line) - 1);

	line[n] = '\0';
	if (!p) {
		done(g, ENOMEM);
		return;
	}
	hmp_line(g->ctl, line, g->thread, on_text, p);
	if (!p->done) {
		p->late = true;
		gdb_put_hex(g, takes_time, sizeof(takes_time) - 1);
		return;
	}
	if (p->text && *p->text)
		gdb_put_hex(g, p->text, MIN(strlen(p->text), GDB_PACKET / 2));
	else
		done(g, p->text ? 0 : ENOMEM);
	free(p->text);
	free(p);
}

static void threads(struct gdb *g)
{
	for (unsigned i = 0; i < g->ctl->m->n_vcpus; i++)
		if (vm_has_cpu(g->ctl->vm, i))
			gdb_put(g, "%c%02x", i ? ',' : 'm', i + 1);
}

static void thread_extra(struct gdb *g, char *p)
{
	unsigned before = g->thread;
	struct x86_state s;
	char text[64];

	if (!thread(g, p) || vm_vcpu_state(g->ctl->vm, g->thread, &s)) {
		fail(g, EINVAL);
	} else {
		snprintf(text, sizeof(text), "CPU#%u [%s]", g->thread, s.activity == X86_ACTIVE ? "running" : "halted");
		gdb_put_hex(g, text, strlen(text));
	}
	g->thread = before;
}

static char *after(char *p, const char *prefix)
{
	size_t n = strlen(prefix);

	return strncmp(p, prefix, n) ? NULL : p + n;
}

static void query(struct gdb *g, char *p)
{
	char *rest;

	if (after(p, "Supported"))
		gdb_put(g, "PacketSize=%x;qXfer:features:read+;swbreak+;hwbreak+;vContSupported+;QStartNoAckMode+", GDB_PACKET);
	else if ((rest = after(p, "Xfer:features:read:")))
		features(g, rest);
	else if (after(p, "Attached"))
		gdb_put(g, "1");
	else if ((rest = after(p, "Rcmd,")))
		monitor(g, rest);
	else if (!strcmp(p, "C"))
		gdb_put(g, "QC%02x", g->thread + 1);
	else if (!strcmp(p, "fThreadInfo"))
		threads(g);
	else if (!strcmp(p, "sThreadInfo"))
		gdb_put(g, "l");
	else if ((rest = after(p, "ThreadExtraInfo,")))
		thread_extra(g, rest);
}

static bool more(struct gdb *g, char *p)
{
	char *rest;

	if (!strcmp(p, "Cont?"))
		gdb_put(g, "vCont;c;C;s;S");
	else if ((rest = after(p, "Cont;")))
		return vcont(g, rest);
	else if (after(p, "Kill"))
		vm_quit(g->ctl->vm), ok(g);
	return true;
}

/* An answer that stays empty says that the packet is not known. */
bool gdb_command(struct gdb *g, char *p, size_t len)
{
	const char *end = p + len;

	switch (*p) {
	case '?': gdb_put_stop(g); return true;
	case 'g': all_regs(g); return true;
	case 'G': set_all_regs(g, p + 1); return true;
	case 'p': one_reg(g, p + 1, false); return true;
	case 'P': one_reg(g, p + 1, true); return true;
	case 'm': read_memory(g, p + 1); return true;
	case 'M': write_memory(g, p + 1, end, false); return true;
	case 'X': write_memory(g, p + 1, end, true); return true;
	case 'z': breakpoint(g, p + 1, false); return true;
	case 'Z': breakpoint(g, p + 1, true); return true;
	case 'c': resume_at(g, p + 1, false); return !g->running;
	case 's': resume_at(g, p + 1, true); return !g->running;
	case 'C': gdb_go(g, -1); return !g->running;
	case 'S': gdb_go(g, (int)g->thread); return !g->running;
	case 'H': done(g, (p[1] == 'g' || p[1] == 'c') && thread(g, p + 2) ? 0 : EINVAL); return true;
	case 'T': {
		unsigned before = g->thread;

		done(g, thread(g, p + 1) ? 0 : EINVAL);
		g->thread = before;
		return true;
	}
	case 'q': query(g, p + 1); return true;
	case 'Q':
		if (!strcmp(p, "QStartNoAckMode")) {
			g->no_ack = true;
			ok(g);
		}
		return true;
	case 'v': return more(g, p + 1);
	case 'D': ok(g); return true;	/* gdb.c does it behind the answer */
	case 'k': vm_quit(g->ctl->vm); return false;
	default: return true;
	}
}
