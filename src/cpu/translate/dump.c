/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is shown of translated code to people and their tools, on request: the
 * map by which perf names what it finds in the code cache, and blocks as text,
 * the guest's instructions beside the host's.
 *
 * Everything here runs under the engine's lock, when a block is made.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cpu/translate/gen.h"
#include "cpu/x86/disasm.h"

struct xl_dump {
	FILE *map;			/* or NULL */
	FILE *out;			/* or NULL: no dump; stderr is not closed */
	uint64_t address;
};

/* The file perf reads.  Its name is known to everybody and /tmp is everybody's: what is there already goes
 * only if it is a plain file of ours, and nothing is followed. */
static int open_map(FILE **out, struct err *err)
{
	char name[64];
	struct stat st;
	int fd;

	snprintf(name, sizeof(name), "/tmp/perf-%d.map", getpid());
	if (!lstat(name, &st) && S_ISREG(st.st_mode) && st.st_uid == geteuid())
		unlink(name);
	fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return err_set(err, -errno, "--perf-map: %s cannot be created: %s", name, strerror(errno));
	*out = fdopen(fd, "w");
	if (*out)
		return 0;
	close(fd);
	return err_set(err, -ENOMEM, "out of memory");
}

int xl_dump_init(struct xl_engine *xe, const struct cpu_engine_config *cfg, struct err *err)
{
	struct xl_dump *d;
	int r;

	if (!cfg->perf_map && !cfg->dump_block)
		return 0;
	d = xe->dump = calloc(1, sizeof(*d));
	if (!d)
		return err_set(err, -ENOMEM, "out of memory");
	if (cfg->perf_map) {
		r = open_map(&d->map, err);
		if (r < 0)
			return r;
		fprintf(d->map, "%" PRIxPTR " %" PRIxPTR " lodge:thunks\n", (uintptr_t)xe->rx, xe->t.end - (uintptr_t)xe->rx);
	}
	if (!cfg->dump_block)
		return 0;
	d->address = cfg->dump_address;
	d->out = cfg->dump_file ? fopen(cfg->dump_file, "we") : stderr;
	if (!d->out)
		return err_set(err, -errno, "--dump-block: %s: %s", cfg->dump_file, strerror(errno));
	return 0;
}

void xl_dump_fini(struct xl_engine *xe)
{
	struct xl_dump *d = xe->dump;

	if (d && d->map)
		fclose(d->map);
	if (d && d->out && d->out != stderr)
		fclose(d->out);
	free(d);
}

/* Host code [from, to) of the cache. */
static void host_code(FILE *f, const char *eol, const struct xasm *a, unsigned from, unsigned to)
{
	char text[128];

	for (unsigned n; from < to; from += n) {
		uint64_t at = a->run + from;

		n = x86_disasm(a->p + from, to - from, at, 64, text, sizeof(text));
		fprintf(f, "    %012" PRIx64 "  %s%s", at, text, eol);
	}
}

static void text(FILE *f, const struct gen *g, uint64_t rip)
{
	const struct xl_block *b = g->b;
	const char *eol = f == stderr ? "\r\n" : "\n";	/* the terminal may be raw */
	uint64_t page = rip & ~0xfffull;
	char line[128];

	fprintf(f, "block at rip %" PRIx64 ", physical %" PRIx64 ", key %x (%u-bit, CPL %u, access class %u%s): %u instructions, %u bytes "
		"in %u%s", rip, b->gpa, b->key, g->bits, XL_KEY_CPL(b->key), XL_KEY_ACC(b->key),
		b->key & XL_KEY_NOGROUP ? ", every access by itself" : "", g->n, b->guest_len, b->code_len, eol);
	fprintf(f, "  entries: from the jump cache %p, from a chain %p, without a look at events %p%s", (void *)b->ientry,
		(void *)b->entry, (void *)b->entry_past, eol);
	host_code(f, eol, &g->hot, g->code0, g->insn[0].host);
	for (unsigned n = 0; n < g->n; n++) {
		const struct gen_insn *gi = &g->insn[n];

		x86_disasm(gi->i.bytes, gi->i.len, page + gi->off, g->bits, line, sizeof(line));
		fprintf(f, "  %" PRIx64 "  %s%s", page + gi->off, line, eol);
		host_code(f, eol, &g->hot, gi->host, n + 1 < g->n ? g->insn[n + 1].host : g->hot.n);
	}
	fprintf(f, "  out of line:%s", eol);
	host_code(f, eol, &g->a, 0, g->a.n);
	fflush(f);
}

void xl_dump_block(const struct gen *g, uint64_t rip)
{
	const struct xl_block *b = g->b;
	struct xl_dump *d = g->xe->dump;

	if (d->map)
		fprintf(d->map, "%" PRIxPTR " %x guest:%" PRIx64 ":%u-bit:cpl%u:rip=%" PRIx64 "\n", (uintptr_t)g->xe->rx + b->code,
			b->code_len, b->gpa, g->bits, XL_KEY_CPL(b->key), rip);
	if (d->out && (d->address - b->gpa < b->guest_len || d->address - rip < b->guest_len))
		text(d->out, g, rip);
}
