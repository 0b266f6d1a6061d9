/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Images of other programs' formats, made by qemu-img from random sparse disks:
 * what is read here must be what was put in, and what the status says must be so.
 *
 *   foreign [--seed S] [--count N] [--verbose]
 *
 * Every seed makes one disk and tries every shape on it.  One line a failure, with
 * the seed that repeats it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "block/image.h"
#include "foreign_make.h"
#include "script.h"
#include "shell.h"

#define MAX_READ (1u << 20)

static const struct shape {
	const char *format, *options;
	bool named;			/* cannot be probed */
	bool big;			/* for disks beyond 2 GiB too */
} shapes[] = {
	{ "vdi", "static=off", .big = true },
	{ "vdi", "static=on" },
	{ "vmdk", "subformat=monolithicSparse", .big = true },
	{ "vmdk", "subformat=monolithicSparse,zeroed_grain=on" },
	{ "vmdk", "subformat=monolithicFlat" },
	{ "vmdk", "subformat=twoGbMaxExtentSparse", .big = true },
	{ "vmdk", "subformat=twoGbMaxExtentFlat", .big = true },
	{ "vmdk", "subformat=streamOptimized", .big = true },
	{ "vhdx", "subformat=dynamic", .big = true },
	{ "vhdx", "subformat=dynamic,block_size=1M" },
	{ "vhdx", "subformat=dynamic,block_size=2M,block_state_zero=off" },
	{ "vhdx", "subformat=fixed,block_size=1M" },
	{ "vpc", "subformat=dynamic,force_size=on", .big = true },
	{ "vpc", "subformat=dynamic" },
	{ "vpc", "subformat=fixed", .named = true },
	{ "vpc", "subformat=fixed,force_size=on", .named = true },
};

static struct loop *loop;
static char dir[] = "/tmp/lodge-foreign-XXXXXX";
static bool verbose;

struct disk {
	int fd;
	uint8_t *data;			/* mapping of the raw file */
	uint64_t size;
};

#define run_command(...) shell_in(dir, verbose, __VA_ARGS__)

static const char *file_name(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

/* Some pieces of data, also such that begin and end between blocks, and at the end of the disk. */
static void make_disk(struct rng *r, bool big, struct disk *d)
{
	unsigned pieces = 1 + (unsigned)rng_below(r, 12);

	d->size = big ? (1ull << 31) + rng_below(r, 1u << 20) * 512 : (1 + rng_below(r, 24576)) * 512;
	d->fd = open(file_name("disk"), O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (d->fd < 0 || ftruncate(d->fd, (off_t)d->size))
		exit(2);
	d->data = mmap(NULL, d->size, PROT_READ | PROT_WRITE, MAP_SHARED, d->fd, 0);
	if (d->data == MAP_FAILED)
		exit(2);
	for (unsigned i = 0; i < pieces; i++) {
		uint64_t at = rng_below(r, d->size / 512) * 512;

		if (i == 0 && rng_one_in(r, 2))
			at = d->size - 512;
		rng_fill(r, d->data + at, least(d->size - at, (1 + rng_below(r, rng_one_in(r, 3) ? 2048 : 64)) * 512));
	}
}

static void free_disk(struct disk *d)
{
	munmap(d->data, d->size);
	close(d->fd);
}

static bool all_zero(const uint8_t *p, uint64_t len)
{
	return !len || (!*p && !memcmp(p, p + 1, len - 1));
}

/* Bytes of the disk, zeros behind its end: a format may round its size up. */
static bool equal(const struct disk *d, uint64_t off, const uint8_t *buf, uint64_t len)
{
	uint64_t part = off < d->size ? least(len, d->size - off) : 0;

	return !memcmp(d->data + off, buf, part) && all_zero(buf + part, len - part);
}

static bool disk_zero(const struct disk *d, uint64_t off, uint64_t len)
{
	uint64_t end = least(off + len, d->size);

	while (off < end) {
		off_t data = lseek(d->fd, (off_t)off, SEEK_DATA);

		if (data < 0 || (uint64_t)data >= end)
			return true;
		len = least(end - (uint64_t)data, 1u << 20);
		if (!all_zero(d->data + data, len))
			return false;
		off = (uint64_t)data + len;
	}
	return true;
}

static const char *read_extent(struct blk_node *n, const struct disk *d, uint64_t off, uint64_t len, uint8_t *buf)
{
	for (uint64_t at = 0, part; at < len; at += part) {
		part = least(len - at, MAX_READ);
		memset(buf, 0xa5, part);
		if (blk_pread(n, off + at, buf, part))
			return "a read failed";
		if (!equal(d, off + at, buf, part))
			return "what is read is not what was written";
	}
	return NULL;
}

/* All of it by extents, then reads anywhere, of any length. */
static const char *compare(struct rng *r, struct blk_node *n, const struct disk *d)
{
	uint8_t *buf = malloc(MAX_READ);
	const char *bad = NULL;
	struct blk_extent x;

	for (uint64_t off = 0; off < n->i.size && !bad; off += x.len) {
		if (blk_block_status(n, off, n->i.size - off, false, &x) || !x.len || x.len > n->i.size - off)
			bad = "the status failed";
		else if (x.zero && !disk_zero(d, off, x.len))
			bad = "the status says zeros where there is data";
		else if (!x.zero || n->i.size < 1u << 30)
			bad = read_extent(n, d, off, x.len, buf);
	}
	for (unsigned i = 0; i < 50 && !bad; i++) {
		uint64_t off = rng_below(r, n->i.size / 512) * 512;

		bad = read_extent(n, d, off, least(n->i.size - off, (1 + rng_below(r, 2048)) * 512), buf);
	}
	free(buf);
	return bad;
}

static const char *open_and_compare(struct rng *r, const char *name, const char *format, const struct disk *d, bool resized)
{
	struct blk_image_opts io = { .file.read_only = true, .format = format, .cache_bytes = rng_one_in(r, 2) ? 1 : 0 };
	const char *bad = NULL;
	struct blk_node *n;
	struct err e = { 0 };

	if (blk_open_image(loop, file_name(name), &io, &n, &e)) {
		fprintf(stderr, "%s\n", e.msg);
		return "the image cannot be opened";
	}
	if (n->i.size < d->size || (n->i.size != d->size && !resized))
		bad = "the disk has another size";
	bad = bad ? bad : compare(r, n, d);
	blk_close(n);
	return bad;
}

static const char *one_shape(struct rng *r, const struct shape *s, const struct disk *d)
{
	bool by_geometry = !strcmp(s->format, "vpc") && !strstr(s->options, "force_size");
	const char *bad;

	if (!run_command("rm -f image*; qemu-img convert -f raw -O %s -o %s disk image", s->format, s->options))
		return "qemu-img cannot make the image";
	bad = open_and_compare(r, "image", s->named || rng_one_in(r, 2) ? s->format : NULL, d, by_geometry);
	return bad;
}

/* An image that stands on another one, after the peer wrote to it. Changes the disk. */
static const char *backed_vmdk(struct rng *r, struct disk *d)
{
	if (!run_command("rm -f image*; qemu-img convert -f raw -O vmdk disk image-base && "
			 "qemu-img create -f vmdk -b image-base -F vmdk image-top"))
		return "qemu-img cannot make the image";
	for (unsigned i = 0; i < 4; i++) {
		uint64_t off = rng_below(r, d->size / 512) * 512, len = least(d->size - off, (1 + rng_below(r, 200)) * 512);
		unsigned pattern = (unsigned)rng_below(r, 255) + 1;

		if (!run_command("qemu-io -t unsafe -f vmdk -c 'write -P %u %llu %llu' image-top", pattern, (unsigned long long)off,
				 (unsigned long long)len))
			return "qemu-io cannot write to the image";
		memset(d->data + off, (int)pattern, len);
	}
	return open_and_compare(r, "image-top", rng_one_in(r, 2) ? "vmdk" : NULL, d, false);
}

static unsigned one(uint64_t seed)
{
	struct rng r = { seed * 0x2545f4914f6cdd1dull };
	bool big = rng_one_in(&r, 8);
	const char *bad;
	unsigned failed = 0;
	struct disk d;

	make_disk(&r, big, &d);
	for (unsigned i = 0; i < ARRAY_LEN(shapes); i++) {
		bad = big && !shapes[i].big ? NULL : one_shape(&r, &shapes[i], &d);
		if (bad)
			printf("# seed %llu: %s (%s, %s)\n", (unsigned long long)seed, bad, shapes[i].format, shapes[i].options);
		failed += bad != NULL;
	}
	bad = big ? NULL : backed_vmdk(&r, &d);
	if (bad)
		printf("# seed %llu: %s (vmdk with a parent)\n", (unsigned long long)seed, bad);
	failed += bad != NULL;
	free_disk(&d);
	return failed;
}

/* A disk whose contents are in memory. */
static void disk_of(const struct made *m, struct disk *d)
{
	d->size = m->size;
	d->fd = open(file_name("disk"), O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (d->fd < 0 || write(d->fd, m->disk, m->size) != (ssize_t)m->size)
		exit(2);
	d->data = mmap(NULL, d->size, PROT_READ, MAP_SHARED, d->fd, 0);
	if (d->data == MAP_FAILED)
		exit(2);
}

/* What was made by hand is what the peer takes it for. */
static const char *by_hand(struct rng *r, const struct made *m, const char *format, bool log)
{
	int fd = open(file_name("hand"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
	const char *bad = NULL;
	struct disk d;

	if (fd < 0 || write(fd, m->file, m->len) != (ssize_t)m->len)
		exit(2);
	close(fd);
	disk_of(m, &d);
	bad = open_and_compare(r, "hand", format, &d, false);
	/* The peer writes before it reads. */
	if (log && !run_command("qemu-img check -f vhdx -r all hand"))
		bad = bad ? bad : "the peer cannot carry out the log";
	if (!bad && !run_command("qemu-img compare -f raw -F %s disk hand", format))
		bad = "the peer reads something else";
	free_disk(&d);
	return bad;
}

enum { HAND_VPC, HAND_VMDK, HAND_VHDX = HAND_VMDK + 7, HAND_DIRTY, N_HAND };

static const char *make_by_hand(unsigned i, struct made *m)
{
	static const unsigned vmdk[] = {
		0, VMDK_MAKE_SECOND, VMDK_MAKE_ZEROED, VMDK_MAKE_PACKED, VMDK_MAKE_PACKED | VMDK_MAKE_FOOTER,
		VMDK_MAKE_BARE, VMDK_MAKE_PACKED | VMDK_MAKE_FOOTER | VMDK_MAKE_V3,
	};

	switch (i) {
	case HAND_VPC:
		make_vpc(m, false);
		return "vpc";
	case HAND_VHDX:
	case HAND_DIRTY:
		make_vhdx(m, i == HAND_DIRTY ? VHDX_MAKE_DIRTY : VHDX_MAKE_CLEAN);
		return "vhdx";
	default:
		make_vmdk(m, vmdk[i - HAND_VMDK], 0x11223344, 0xffffffff, NULL);
		return "vmdk";
	}
}

static unsigned all_by_hand(void)
{
	unsigned failed = 0;

	for (unsigned i = 0; i < N_HAND; i++) {
		struct rng r = { i + 1 };
		struct made m;
		const char *format, *bad;

		/* The peer has no use for a second directory where the first is damaged, nor we for an extent alone. */
		if (i == HAND_VMDK + 1 || i == HAND_VMDK + 5)
			continue;
		made_init(&m);
		format = make_by_hand(i, &m);
		bad = by_hand(&r, &m, format, i == HAND_DIRTY);
		if (bad)
			printf("# made by hand, %u: %s (%s)\n", i, bad, format);
		failed += bad != NULL;
		made_fini(&m);
	}
	return failed;
}

static void clean_up(void)
{
	char cmd[64];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	if (system(cmd))
		perror(dir);
}

int main(int argc, char **argv)
{
	uint64_t seed = 1, count = 10, failed = 0;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--verbose"))
			verbose = true;
		else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
			seed = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--count") && i + 1 < argc)
			count = strtoull(argv[++i], NULL, 0);
		else
			return fprintf(stderr, "usage: foreign [--seed S] [--count N] [--verbose]\n"), 2;
	}
	if (loop_new(&loop) || !mkdtemp(dir))
		return 2;
	if (!run_command("qemu-img --version")) {
		printf("1..0 # SKIP qemu-img is not installed (package qemu-utils)\n");
		clean_up();
		return 0;
	}
	for (uint64_t i = seed; i < seed + count; i++)
		failed += one(i);
	failed += all_by_hand();
	printf("%sok 1 - %llu disks in every shape, seeds from %llu: %llu wrong\n1..1\n", failed ? "not " : "",
	       (unsigned long long)count, (unsigned long long)seed, (unsigned long long)failed);
	clean_up();
	loop_free(loop);
	return failed != 0;
}
