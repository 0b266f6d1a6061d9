/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests to an image from the command line: what qemu-io is to the peer.
 *
 *   io [-f FORMAT] [-r] [-n] FILE COMMAND...
 *
 *   w:BYTE:OFF:LEN   write the byte           c:BYTE:OFF:LEN  the same, compressed
 *   z:OFF:LEN        write zeroes             u:OFF:LEN       the same, and give the place back
 *   d:OFF:LEN        discard                  f               flush
 *   v:FILE           the disk is as FILE      o:OFF:LEN:FILE  read to FILE
 *   x                end here and now, as if killed
 *
 * -r opens read-only, -n takes direct I/O.  Requests that change and do not overlap are under way together.  Exit
 * status 1: something failed, or differs.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "block/image.h"

#define MAX_PENDING 16
#define PIECE (1u << 20)

struct pending {
	struct blk_req r;
	struct iovec v;
	bool busy;
	int ret;
};

static struct pending pending[MAX_PENDING];
static struct blk_node *node;

static int fail(const char *what, const char *command, int ret)
{
	fprintf(stderr, "io: %s: %s%s%s\n", command, what, ret ? ": " : "", ret ? strerror(-ret) : "");
	return 1;
}

static void pending_done(struct blk_req *r, int ret)
{
	struct pending *p = container_of(r, struct pending, r);

	p->ret = ret;
	p->busy = false;
	free(p->v.iov_base);
}

static int settle(const char *command)
{
	int bad = 0;

	blk_drain(node);
	for (unsigned i = 0; i < MAX_PENDING; i++) {
		if (pending[i].ret)
			bad = fail("a request before it failed", command, pending[i].ret);
		pending[i] = (struct pending){ 0 };
	}
	return bad;
}

static struct pending *take_slot(uint64_t off, uint64_t len)
{
	struct pending *free_one = NULL;

	for (unsigned i = 0; i < MAX_PENDING; i++) {
		struct pending *p = &pending[i];

		if (p->busy && off < p->r.offset + p->r.len && p->r.offset < off + len)
			return NULL;
		if (!p->busy && !p->ret && !free_one)
			free_one = p;
	}
	return free_one;
}

static int change(const char *command, char op, unsigned byte, uint64_t off, uint64_t len)
{
	struct pending *p = take_slot(off, len);

	if (!p && settle(command))
		return 1;
	p = p ? p : &pending[0];
	*p = (struct pending){ .busy = true };
	p->r = (struct blk_req){ .offset = off, .len = len, .done = pending_done, .unmap = op == 'u', .compress = op == 'c' };
	p->r.op = op == 'd' ? BLK_DISCARD : op == 'z' || op == 'u' ? BLK_WRITE_ZEROES : BLK_WRITE;
	if (p->r.op == BLK_WRITE) {
		p->v = (struct iovec){ aligned_alloc(4096, align_up(len, 4096)), len };
		if (!p->v.iov_base)
			return fail("no memory", command, 0);
		memset(p->v.iov_base, (int)byte, len);
		p->r.iov = &p->v;
		p->r.niov = 1;
	}
	blk_submit(node, &p->r);
	return 0;
}

static int verify(const char *command, const char *path)
{
	uint8_t *a = aligned_alloc(4096, PIECE), *b = malloc(PIECE);
	FILE *f = fopen(path, "r");
	int ret = 0, bad = 0;

	if (!a || !b || !f)
		return fail("the file cannot be read", command, 0);
	for (uint64_t at = 0; at < node->i.size && !bad; at += PIECE) {
		size_t len = MIN(PIECE, node->i.size - at);

		ret = blk_pread(node, at, a, len);
		if (ret || fread(b, 1, len, f) != len)
			bad = fail("cannot be read", command, ret);
		for (size_t i = 0; i < len && !bad; i += 512)
			if (memcmp(a + i, b + i, 512) != 0) {
				fprintf(stderr, "io: differs at byte %llu: %02x, not %02x\n", (unsigned long long)(at + i), a[i], b[i]);
				bad = 1;
			}
	}
	if (!bad && fgetc(f) != EOF)
		bad = fail("the file is longer than the disk", command, 0);
	fclose(f);
	free(a);
	free(b);
	return bad;
}

static int read_out(const char *command, uint64_t off, uint64_t len, const char *path)
{
	uint8_t *buf = aligned_alloc(4096, align_up(len, 4096));
	FILE *f = fopen(path, "w");
	int ret = buf && f ? blk_pread(node, off, buf, len) : -ENOMEM;

	if (!ret && (fwrite(buf, 1, len, f) != len || fclose(f)))
		ret = -EIO;
	free(buf);
	return ret ? fail("cannot be read", command, ret) : 0;
}

static int run(const char *command)
{
	unsigned long long off, len;
	unsigned byte;
	int n = 0;

	if ((*command == 'w' || *command == 'c') && sscanf(command + 1, ":%u:%llu:%llu", &byte, &off, &len) == 3)
		return change(command, *command, byte, off, len);
	if (strchr("zud", *command) && sscanf(command + 1, ":%llu:%llu", &off, &len) == 2)
		return change(command, *command, 0, off, len);
	if (settle(command))
		return 1;
	if (*command == 'x')
		_exit(0);
	if (*command == 'f')
		return blk_flush(node) ? fail("failed", command, 0) : 0;
	if (*command == 'v')
		return verify(command, command + 2);
	if (sscanf(command, "o:%llu:%llu:%n", &off, &len, &n) == 2 && n)
		return read_out(command, off, len, command + n);
	return fail("no such command", command, 0);
}

int main(int argc, char **argv)
{
	struct blk_image_opts o = { .trust = BLK_TRUST_FOLDER };
	struct loop *l;
	struct err e = { 0 };
	int c, bad = 0;

	while ((c = getopt(argc, argv, "f:rn")) >= 0) {
		switch (c) {
		case 'f': o.format = optarg; break;
		case 'r': o.file.read_only = true; break;
		case 'n': o.file.cache = BLK_CACHE_NONE; break;
		default: return 2;
		}
	}
	if (optind >= argc || loop_new(&l))
		return 2;
	if (blk_open_image(l, argv[optind], &o, &node, &e)) {
		fprintf(stderr, "io: %s\n", e.msg);
		return 1;
	}
	for (int i = optind + 1; i < argc && !bad; i++)
		bad = run(argv[i]);
	bad = settle("end") || bad;
	blk_close(node);
	loop_free(l);
	return bad;
}
