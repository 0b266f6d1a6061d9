/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disks on NBD servers (nbdkit, qemu-nbd): data against a model with many requests
 * under way, what servers cannot do, servers that die or were never there, TLS,
 * images on exports, and exports as backing files.
 */
#include "peer.h"

#include "block/image.h"
#include "block/protocol.h"
#include "block/qcow2/qcow2.h"

#define SIZE (1u << 20)
#define MAX_WORDS 20

static struct loop *loop;
static char dir[64], sock[128], uri[192];
static pid_t server;

static void start_server(const char *words)
{
	const char *argv[MAX_WORDS] = { "nbdkit", "-f", "-U", sock };
	char *copy = strdup(words), *save = NULL;
	unsigned n = 4;

	for (char *w = strtok_r(copy, " ", &save); w && n < MAX_WORDS - 1; w = strtok_r(NULL, " ", &save))
		argv[n++] = w;
	unlink(sock);
	server = peer_start(argv);
	peer_wait_for_socket(sock);
	free(copy);
}

static void stop_server(void)
{
	peer_kill(server);
	server = 0;
}

static int open_uri(const char *name, bool read_only, struct blk_node **n, struct err *e)
{
	const struct blk_image_opts o = { .format = "raw", .file.read_only = read_only };

	return blk_open_image(loop, name, &o, n, e);
}

static struct blk_node *opened(bool read_only)
{
	struct blk_node *n = NULL;
	struct err e = { 0 };

	if (open_uri(uri, read_only, &n, &e))
		fail_msg("%s", e.msg);
	return n;
}

/* Random requests, up to 16 under way in parts of the disk that do not overlap, against a model. */
struct lane {
	struct blk_req r;
	struct iovec v[3];
	uint8_t *buf, *model;
	unsigned *busy;
	bool flying, reads;
};

static void lane_done(struct blk_req *r, int ret)
{
	struct lane *a = r->opaque;

	assert_int_equal(ret, 0);
	a->flying = false;
	--*a->busy;
	if (a->reads)
		assert_memory_equal(a->buf, a->model, r->len);
}

#define LANES 16
#define LANE_LEN (SIZE / LANES)

static void lane_start(struct blk_node *n, struct lane *a, unsigned lane, uint8_t *model)
{
	uint64_t off = (uint64_t)(random() % 100) * 512, len = (uint64_t)(random() % 28 + 1) * 512;
	unsigned kind = (unsigned)random() % 10;

	a->model = model + lane * LANE_LEN + off;
	a->reads = kind < 4;
	a->flying = true;
	++*a->busy;
	a->v[0] = (struct iovec){ a->buf, kind & 1 ? len : 100 };
	a->v[1] = (struct iovec){ a->buf + 100, 400 };
	a->v[2] = (struct iovec){ a->buf + 500, len - 500 };
	a->r = (struct blk_req){ .offset = lane * LANE_LEN + off, .len = len, .iov = a->v, .niov = kind & 1 ? 1 : 3,
				 .done = lane_done, .opaque = a, .fua = random() & 1 };
	a->r.op = kind < 4 ? BLK_READ : kind < 8 ? BLK_WRITE : kind == 8 ? BLK_WRITE_ZEROES : BLK_FLUSH;
	if (a->r.op == BLK_WRITE) {
		for (uint64_t i = 0; i < len; i++)
			a->model[i] = a->buf[i] = (uint8_t)random();
	} else if (a->r.op == BLK_WRITE_ZEROES) {
		a->r.unmap = random() & 1;
		memset(a->model, 0, len);
	}
	blk_submit(n, &a->r);
}

static void random_io(struct blk_node *n, unsigned count)
{
	uint8_t *model = malloc(SIZE), *all = malloc(SIZE);
	struct lane lanes[LANES] = { 0 };
	unsigned busy = 0;

	assert_int_equal(blk_pread(n, 0, model, SIZE), 0);
	for (unsigned i = 0; i < LANES; i++) {
		lanes[i].buf = malloc(LANE_LEN);
		lanes[i].busy = &busy;
	}
	while (count) {
		for (unsigned i = 0; i < LANES; i++)
			if (!lanes[i].flying && count) {
				lane_start(n, &lanes[i], i, model);
				count--;
			}
		loop_turn(loop, 1000);
	}
	while (busy)
		loop_turn(loop, 1000);
	assert_int_equal(blk_pread(n, 0, all, SIZE), 0);
	assert_memory_equal(all, model, SIZE);
	for (unsigned i = 0; i < LANES; i++)
		free(lanes[i].buf);
	free(model);
	free(all);
}

static void data_survives(void **state)
{
	struct blk_node *n;

	need_peer("nbdkit");
	srandom(1);
	start_server("memory 1M");
	n = opened(false);
	assert_int_equal(n->i.size, SIZE);
	assert_true(n->i.can_discard);
	random_io(n, 2000);
	assert_int_equal(blk_pdiscard(n, 0, SIZE), 0);
	blk_close(n);
	stop_server();
}

/* No FUA, no zeroing, small requests only, no structured replies, no trim: slower, and right. */
static void poor_servers(void **state)
{
	static const char *const poor[] = {
		"--filter=fua memory 1M",
		"--filter=nozero memory 1M",
		("--filter=blocksize-policy memory 1M blocksize-minimum=512 blocksize-preferred=512 blocksize-maximum=4096 "
		 "blocksize-error-policy=error"),
		"--no-sr memory 1M",
		"--filter=noextents --filter=delay memory 1M delay-write=1ms",
	};
	struct blk_node *n;

	need_peer("nbdkit");
	for (unsigned i = 0; i < ARRAY_LEN(poor); i++) {
		start_server(poor[i]);
		n = opened(false);
		random_io(n, 400);
		assert_int_equal(blk_pdiscard(n, 0, SIZE), 0);
		blk_close(n);
		stop_server();
	}
}

static void status_tells_holes(void **state)
{
	uint8_t buf[65536];
	struct blk_extent x;
	struct blk_node *n;

	need_peer("nbdkit");
	memset(buf, 1, sizeof(buf));
	start_server("memory 1M");
	n = opened(false);
	assert_int_equal(blk_pwrite(n, 65536, buf, sizeof(buf)), 0);
	assert_int_equal(blk_block_status(n, 0, SIZE, false, &x), 0);
	assert_true(x.zero && !x.data && x.allocated);
	assert_int_equal(x.len, 65536);
	assert_int_equal(blk_block_status(n, 65536, SIZE - 65536, false, &x), 0);
	assert_true(x.data && !x.zero && x.has_offset);
	assert_int_equal(x.offset, 65536);
	assert_true(x.len >= 65536);
	blk_close(n);
	stop_server();
}

/* A size that is no multiple of 512 bytes is rounded up; the rest reads as zeros and may be written. */
static void odd_sizes(void **state)
{
	uint8_t buf[1024];
	struct blk_extent x;
	struct blk_node *n;

	need_peer("nbdkit");
	start_server("memory 1000");
	n = opened(false);
	assert_int_equal(n->i.size, 1024);
	memset(buf, 7, sizeof(buf));
	assert_int_equal(blk_pwrite(n, 0, buf, 1024), 0);
	memset(buf, 9, sizeof(buf));
	assert_int_equal(blk_pread(n, 0, buf, 1024), 0);
	assert_int_equal(buf[999], 7);
	assert_int_equal(buf[1000], 0);
	assert_int_equal(blk_pwrite_zeroes(n, 512, 512, false), 0);
	assert_int_equal(blk_block_status(n, 512, 512, false, &x), 0);
	assert_int_equal(x.len, 512);
	blk_close(n);
	stop_server();
}

/* A server that takes only larger blocks, and says so to everybody else. */
static void large_blocks(void **state)
{
	struct blk_extent x;
	struct blk_node *n;
	uint8_t buf[512];

	need_peer("nbdkit");
	srandom(4);
	for (unsigned block = 1024; block <= 65536; block *= 8) {
		char words[200];

		snprintf(words, sizeof(words), "--filter=blocksize-policy memory 1M blocksize-minimum=%u blocksize-error-policy=error "
			 "blocksize-preferred=%u", block, MAX(block, 4096u));
		start_server(words);
		n = opened(false);
		assert_int_equal(n->i.request_align, block);
		random_io(n, 1500);
		assert_int_equal(blk_pdiscard(n, 512, 200 * 1024), 0);
		memset(buf, 3, sizeof(buf));
		assert_int_equal(blk_pwrite(n, SIZE - 512, buf, 512), 0);
		for (uint64_t at = 0; at < SIZE; at += x.len) {
			assert_int_equal(blk_block_status(n, at, SIZE - at, false, &x), 0);
			assert_true(x.len > 0 && x.len % 512 == 0 && x.len <= SIZE - at);
			if (at + x.len == SIZE)
				assert_false(x.zero);
		}
		blk_close(n);
		stop_server();
	}
}

static void refused(void **state)
{
	struct blk_node *n = NULL;
	struct err e = { 0 };

	need_peer("nbdkit");
	unlink(sock);
	assert_true(open_uri(uri, false, &n, &e) < 0);
	assert_non_null(strstr(e.msg, "is the server running?"));
	start_server("-r memory 1M");
	assert_int_equal(open_uri(uri, false, &n, &e), -EROFS);
	assert_non_null(strstr(e.msg, "read-only"));
	n = opened(true);
	assert_int_equal(blk_pwrite_zeroes(n, 0, 512, true), -EROFS);
	blk_close(n);
	stop_server();
	assert_int_equal(open_uri("gopher://x", false, &n, &e), -ENOTSUP);
	assert_non_null(strstr(e.msg, "gopher"));
	assert_true(open_uri("nbds+unix:///?socket=nowhere", false, &n, &e) < 0);
}

struct counted {
	unsigned failed, ended;
};

static void must_fail(struct blk_req *r, int ret)
{
	struct counted *c = r->opaque;

	c->ended++;
	c->failed += ret == -EIO;
}

/* A killed server: what was under way fails, and so does what follows; nothing hangs. */
static void dead_server(void **state)
{
	uint8_t buf[4096] = { 0 };
	struct iovec v = { buf, sizeof(buf) };
	struct counted c = { 0 };
	struct blk_req r[8];
	struct blk_node *n;

	need_peer("nbdkit");
	start_server("--filter=delay memory 1M delay-read=30");
	n = opened(false);
	for (unsigned i = 0; i < 8; i++) {
		r[i] = (struct blk_req){ .op = BLK_READ, .offset = i * 4096, .len = 4096, .iov = &v, .niov = 1,
					 .done = must_fail, .opaque = &c };
		blk_submit(n, &r[i]);
	}
	loop_turn(loop, 10);
	stop_server();
	while (c.ended < 8)
		assert_int_equal(loop_turn(loop, 5000), 0);
	assert_int_equal(c.failed, 8);
	assert_int_equal(blk_pread(n, 0, buf, 512), -EIO);
	assert_int_equal(blk_flush(n), -EIO);
	blk_close(n);
	/* The same while somebody waits for the node to come to rest. */
	start_server("--filter=delay memory 1M delay-read=1");
	n = opened(true);
	c = (struct counted){ 0 };
	r[0].done = must_fail;
	blk_submit(n, &r[0]);
	loop_turn(loop, 10);
	stop_server();
	blk_drain(n);
	assert_int_equal(c.failed, 1);
	blk_close(n);
}

static void errors_pass(void **state)
{
	uint8_t buf[512] = { 0 };
	struct blk_node *n;

	need_peer("nbdkit");
	start_server("--filter=error memory 1M error-pwrite-rate=1 error-pwrite=ENOSPC error-pread-rate=1 error-pread=EIO");
	n = opened(false);
	assert_int_equal(blk_pwrite(n, 0, buf, 512), -ENOSPC);
	assert_int_equal(blk_pread(n, 0, buf, 512), -EIO);
	assert_int_equal(blk_pread(n, 0, buf, 512), -EIO);
	blk_close(n);
	stop_server();
}

static void tls_with_keys(void **state)
{
	char keys[160], words[256], tls[512];
	struct blk_node *n = NULL;
	struct err e = { 0 };
	FILE *f;

	need_peer("nbdkit");
	snprintf(keys, sizeof(keys), "%s/keys.psk", dir);
	f = fopen(keys, "w");
	assert_non_null(f);
	fprintf(f, "alice:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n");
	fclose(f);
	snprintf(words, sizeof(words), "--tls=require --tls-psk=%s memory 1M", keys);
	start_server(words);
	snprintf(tls, sizeof(tls), "nbds+unix://alice@/?socket=%s&tls-psk-file=%s", sock, keys);
	if (open_uri(tls, false, &n, &e))
		fail_msg("%s", e.msg);
	random_io(n, 300);
	blk_close(n);
	/* Without TLS such a server says no; and one that cannot do TLS is not talked to in the clear. */
	assert_true(open_uri(uri, false, &n, &e) < 0);
	stop_server();
	start_server("--tls=off memory 1M");
	assert_true(open_uri(tls, false, &n, &e) < 0);
	stop_server();
	unlink(keys);
}

/* An image whose file is an export. */
static void qcow2_on_export(void **state)
{
	const struct blk_open_opts fo = { .open_ended = true };
	const struct qcow2_create_opts co = { .size = SIZE };
	const struct blk_image_opts io = { 0 };
	struct blk_node *n = NULL;
	struct err e = { 0 };

	need_peer("nbdkit");
	start_server("memory 8M");
	assert_int_equal(blk_open_protocol(loop, uri, &fo, false, &n, &e), 0);
	if (qcow2_create(n, &co, &e))
		fail_msg("%s", e.msg);
	blk_close(n);
	if (blk_open_image(loop, uri, &io, &n, &e))
		fail_msg("%s", e.msg);
	assert_string_equal(n->format, "qcow2");
	random_io(n, 500);
	blk_close(n);
	stop_server();
}

static void make_overlay(const char *path, const char *backing)
{
	const struct qcow2_create_opts co = { .size = SIZE, .backing = backing, .backing_format = "raw" };
	const struct blk_open_opts fo = { .open_ended = true };
	struct blk_node *n = NULL;
	struct err e = { 0 };

	assert_int_equal(blk_create_file(path, true, &e), 0);
	assert_int_equal(blk_open_file(loop, path, &fo, &n, &e), 0);
	assert_int_equal(qcow2_create(n, &co, &e), 0);
	blk_close(n);
}

/* An image may have us connect somewhere only if the user agrees. */
static void backing_on_export(void **state)
{
	struct blk_image_opts o = { .trust = BLK_TRUST_FOLDER };
	char path[160];
	uint8_t buf[512];
	struct blk_node *n = NULL;
	struct err e = { 0 };

	need_peer("nbdkit");
	snprintf(path, sizeof(path), "%s/overlay", dir);
	make_overlay(path, uri);
	start_server("-r pattern 1M");
	assert_int_equal(blk_open_image(loop, path, &o, &n, &e), -EACCES);
	assert_non_null(strstr(e.msg, "on a server"));
	o.trust = BLK_TRUST_NONE;
	assert_int_equal(blk_open_image(loop, path, &o, &n, &e), -EACCES);
	o.trust = BLK_TRUST_ALL;
	if (blk_open_image(loop, path, &o, &n, &e))
		fail_msg("%s", e.msg);
	assert_int_equal(blk_pread(n, 512, buf, 512), 0);
	assert_int_equal(buf[6], 2);	/* the pattern: offsets, big-endian */
	blk_close(n);
	stop_server();
	unlink(path);
}

static void qemu_serves(void **state)
{
	char path[160];
	struct blk_node *n;

	need_peer("qemu-nbd");
	snprintf(path, sizeof(path), "%s/disk", dir);
	make_overlay(path, NULL);
	unlink(sock);
	server = peer_start((const char *[]){ "qemu-nbd", "-t", "-f", "qcow2", "--discard=unmap", "-k", sock, path, NULL });
	peer_wait_for_socket(sock);
	n = opened(false);
	assert_int_equal(n->i.size, SIZE);
	random_io(n, 500);
	blk_close(n);
	stop_server();
	unlink(path);
}

/* Files that are called like a URI, and the disk that is not there. */
static void other_names(void **state)
{
	char cwd[512], name[600];
	uint8_t buf[512];
	struct blk_node *n = NULL;
	struct err e = { 0 };

	assert_non_null(getcwd(cwd, sizeof(cwd)));
	assert_int_equal(chdir(dir), 0);
	assert_int_equal(mkdir("nbd:", 0700), 0);
	make_overlay("nbd:/disk", NULL);
	assert_true(open_uri("nbd://disk:1", true, &n, &e) < 0);
	snprintf(name, sizeof(name), "./nbd://disk");
	assert_int_equal(open_uri(name, true, &n, &e), 0);
	blk_close(n);
	assert_int_equal(open_uri("file:nbd://disk", true, &n, &e), 0);
	blk_close(n);
	unlink("nbd:/disk");
	rmdir("nbd:");
	assert_int_equal(chdir(cwd), 0);

	assert_int_equal(open_uri("null-co://64K", false, &n, &e), 0);
	assert_int_equal(n->i.size, 65536);
	memset(buf, 1, sizeof(buf));
	assert_int_equal(blk_pwrite(n, 0, buf, 512), 0);
	assert_int_equal(blk_pread(n, 0, buf, 512), 0);
	assert_int_equal(buf[0] | buf[511], 0);
	blk_close(n);
	assert_int_equal(open_uri("null-co://", false, &n, &e), 0);
	assert_int_equal(n->i.size, 1 << 30);
	blk_close(n);
	assert_int_equal(open_uri("null-co://12x", false, &n, &e), -EINVAL);
	assert_int_equal(open_uri("null-co://99999999999T", false, &n, &e), -EINVAL);
}

static int setup(void **state)
{
	/* Not in the build folder: a socket's path has 107 bytes at most. */
	snprintf(dir, sizeof(dir), "/tmp/lodge-nbd-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(sock, sizeof(sock), "%s/sock", dir);
	snprintf(uri, sizeof(uri), "nbd+unix:///?socket=%s", sock);
	return loop_new(&loop);
}

static int teardown(void **state)
{
	unlink(sock);
	rmdir(dir);
	loop_free(loop);
	return 0;
}

/* A test that failed leaves no server behind. */
static int stop_left(void **state)
{
	if (server)
		stop_server();
	return 0;
}

#define TEST(f) cmocka_unit_test_teardown(f, stop_left)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(data_survives),
		TEST(poor_servers),
		TEST(status_tells_holes),
		TEST(odd_sizes),
		TEST(large_blocks),
		TEST(refused),
		TEST(dead_server),
		TEST(errors_pass),
		TEST(tls_with_keys),
		TEST(qcow2_on_export),
		TEST(backing_on_export),
		TEST(qemu_serves),
		TEST(other_names),
	};

	return cmocka_run_group_tests_name("block-nbd", tests, setup, teardown);
}
