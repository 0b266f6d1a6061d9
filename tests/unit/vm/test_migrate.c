// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Promise: records of a migration arrive whole or not at all, whichever byte is changed, left out or said twice; what waits
 * ends when it is told to, and when nothing comes; memory arrives as it was, and pages that are not there are refused.
 */
#include "../unit.h"

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/zero.h"
#include "vm/migrate_late.h"
#include "vm/migrate_ram.h"
#include "vm/migrate_wire.h"

#define PAGES 64u

struct fix {
	struct mig_chan a, b;
	int stop;
};

static int set_up(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	struct err e;
	int s[2], size = 4 << 20;

	f->stop = eventfd(0, EFD_NONBLOCK);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s), 0);
	setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	assert_int_equal(mig_chan_init(&f->a, s[0], s[0], f->stop, &e), 0);
	assert_int_equal(mig_chan_init(&f->b, s[1], s[1], f->stop, &e), 0);
	f->a.timeout_ms = f->b.timeout_ms = 2000;
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fix *f = *state;

	mig_chan_fini(&f->a);
	mig_chan_fini(&f->b);
	close(f->stop);
	free(f);
	return 0;
}

static void records_arrive(void **state)
{
	struct fix *f = *state;
	struct mig_record r;
	char text[20];
	struct err e;

	assert_int_equal(mig_send_u32(&f->a, MIG_COMPLETE, 0x12345678, &e), 0);
	assert_int_equal(mig_send_bytes(&f->a, MIG_ROUND, NULL, 0, &e), 0);
	assert_int_equal(mig_send_text(&f->a, MIG_FAILED, "no\nroom", &e), 0);
	assert_int_equal(mig_recv(&f->b, &r, &e), 0);
	assert_int_equal(r.type, MIG_COMPLETE);
	assert_int_equal(mig_u32(&f->b, &r), 0x12345678);
	assert_int_equal(mig_recv(&f->b, &r, &e), 0);
	assert_int_equal(r.type, MIG_ROUND);
	assert_int_equal(mig_u32(&f->b, &r), 0);
	assert_int_equal(mig_recv(&f->b, &r, &e), 0);
	mig_text(&f->b, &r, text, sizeof(text));
	assert_string_equal(text, "no?room");
	mig_text(&f->b, &r, text, 4);
	assert_string_equal(text, "no?");
}

/* Each byte of a record but for its checksum's, changed in each bit. */
static void damage_is_seen(void **state)
{
	uint8_t data[40], buf[MIG_HEAD + sizeof(data)];
	const struct iovec iov = { data, sizeof(data) };
	struct mig_record r;
	struct err e;

	memset(data, 0x5a, sizeof(data));
	mig_head_put(buf, MIG_STATE, 7, &iov, 1);
	memcpy(buf + MIG_HEAD, data, sizeof(data));
	assert_int_equal(mig_head_get(buf, 7, &r, &e), 0);
	assert_int_equal(mig_check(buf, &r, buf + MIG_HEAD, &e), 0);
	assert_int_equal(mig_head_get(buf, 8, &r, &e), -EPROTO);
	for (unsigned bit = 0; bit < sizeof(buf) * 8; bit++) {
		int ret;

		buf[bit / 8] ^= (uint8_t)BIT(bit % 8);
		ret = mig_head_get(buf, 7, &r, &e);
		if (!ret && r.len <= sizeof(data))
			ret = mig_check(buf, &r, buf + MIG_HEAD, &e);
		/* More bytes are wanted than there are: the next record's are taken for them, and the sum is wrong. */
		assert_true(ret == -EPROTO || r.len > sizeof(data));
		buf[bit / 8] ^= (uint8_t)BIT(bit % 8);
	}
}

static void order_counts(void **state)
{
	struct fix *f = *state;
	struct mig_record r;
	struct err e;

	assert_int_equal(mig_send_u32(&f->a, MIG_TAKE, 1, &e), 0);
	f->a.sent_n = 0;	/* the same again */
	assert_int_equal(mig_send_u32(&f->a, MIG_TAKE, 1, &e), 0);
	assert_int_equal(mig_recv(&f->b, &r, &e), 0);
	assert_int_equal(mig_recv(&f->b, &r, &e), -EPROTO);
	assert_non_null(strstr(e.msg, "came as number 0"));
}

static void waiting_ends(void **state)
{
	struct fix *f = *state;
	struct mig_record r;
	struct err e;

	f->b.timeout_ms = 20;
	assert_int_equal(mig_recv(&f->b, &r, &e), -ETIMEDOUT);
	f->b.timeout_ms = -1;
	eventfd_write(f->stop, 1);
	assert_int_equal(mig_recv(&f->b, &r, &e), -ECANCELED);
	mig_chan_fini(&f->a);
	assert_int_equal(mig_recv(&f->b, &r, &e), -EPIPE);
}

static struct mem *memory(void)
{
	struct mem *m;
	struct err e;

	assert_int_equal(mem_new(&m), 0);
	assert_int_equal(mem_create_ram(m, PAGES * PAGE_4K, MEM_HUGE_NONE, &e), 0);
	return m;
}

static void take(struct fix *f, struct mig_rx *rx, unsigned want)
{
	struct mig_record r;
	struct err e;

	for (unsigned i = 0; i < want; i++) {
		assert_int_equal(mig_recv(&f->b, &r, &e), 0);
		if (r.type == MIG_PAGES)
			assert_int_equal(mig_rx_pages(rx, f->b.buf, r.len, &e), 0);
		else
			assert_int_equal(mig_rx_zeros(rx, f->b.buf, r.len, &e), 0);
	}
}

static void memory_arrives(void **state)
{
	for (int level = 0; level <= 3; level += 3) {
		struct fix *f = *state;
		struct mem *from = memory(), *to = memory();
		struct mig_tx_stats s;
		struct mig_tx *tx;
		struct mig_rx *rx;
		struct err e;
		unsigned x = 1;

		for (unsigned i = 0; i < PAGES * PAGE_4K; i++)
			if (i / PAGE_4K % 3)	/* every third is zeros */
				mem_ram_host(from)[i] = (uint8_t)((x = x * 1103515245 + 12345) >> (i / PAGE_4K % 2 ? 16 : 29));
		memset(mem_ram_host(to), 0xee, PAGES * PAGE_4K);
		assert_int_equal(mig_tx_new(from, &f->a, level, &tx), 0);
		assert_int_equal(mig_rx_new(to, &rx), 0);
		assert_int_equal(mig_rx_missing(rx), PAGES);
		for (unsigned p = 0; p < PAGES; p++)
			assert_int_equal(mig_tx_page(tx, p, false, &e), 0);
		assert_int_equal(mig_tx_flush(tx, &e), 0);
		take(f, rx, 2);
		assert_int_equal(mig_rx_missing(rx), 0);
		assert_memory_equal(mem_ram_host(from), mem_ram_host(to), PAGES * PAGE_4K);
		mig_tx_stats(tx, &s);
		assert_int_equal(s.zero, (PAGES + 2) / 3);
		assert_int_equal(s.zero + s.normal, PAGES);
		assert_true(level ? s.compressed_out < s.compressed_in && s.compressed_out : !s.compressed_in);
		/* What is known to be zeros is not looked at, and a run of them is one record. */
		for (unsigned p = 0; p < PAGES; p++)
			assert_int_equal(mig_tx_page(tx, p, true, &e), 0);
		assert_int_equal(mig_tx_flush(tx, &e), 0);
		take(f, rx, 1);
		assert_true(mem_is_zero(mem_ram_host(to), PAGES * PAGE_4K));
		mig_tx_free(tx);
		mig_rx_free(rx);
		mem_free(from);
		mem_free(to);
	}
}

static void nonsense_is_refused(void **state)
{
	static uint8_t p[8 + 8 + PAGE_4K];
	struct mem *to = memory();
	struct mig_rx *rx;
	struct err e;

	assert_int_equal(mig_rx_new(to, &rx), 0);
	st_le32(p, 1);
	st_le64(p + 8, PAGES - 1);
	assert_int_equal(mig_rx_pages(rx, p, sizeof(p), &e), 0);
	assert_int_equal(mig_rx_pages(rx, p, sizeof(p) - 1, &e), -EPROTO);
	st_le64(p + 8, PAGES);
	assert_int_equal(mig_rx_pages(rx, p, sizeof(p), &e), -EPROTO);
	st_le64(p + 8, 0);
	st_le32(p, 2);
	assert_int_equal(mig_rx_pages(rx, p, sizeof(p), &e), -EPROTO);
	st_le32(p, 0);
	assert_int_equal(mig_rx_pages(rx, p, sizeof(p), &e), -EPROTO);
	st_le32(p, MIG_BATCH + 1);
	assert_int_equal(mig_rx_pages(rx, p, sizeof(p), &e), -EPROTO);
	st_le32(p, 1);
	st_le32(p + 4, MIG_ZSTD);
	assert_int_equal(mig_rx_pages(rx, p, sizeof(p), &e), -EPROTO);
	st_le32(p + 4, 2);
	assert_int_equal(mig_rx_pages(rx, p, sizeof(p), &e), -EPROTO);
	assert_int_equal(mig_rx_pages(rx, p, 3, &e), -EPROTO);
	st_le64(p, 1);
	st_le64(p + 8, PAGES);
	assert_int_equal(mig_rx_zeros(rx, p, 16, &e), -EPROTO);
	st_le64(p + 8, UINT64_MAX);
	assert_int_equal(mig_rx_zeros(rx, p, 16, &e), -EPROTO);
	st_le64(p + 8, 0);
	assert_int_equal(mig_rx_zeros(rx, p, 16, &e), -EPROTO);
	assert_int_equal(mig_rx_zeros(rx, p, 15, &e), -EPROTO);
	assert_int_equal(mig_rx_zeros(rx, p, 0, &e), -EPROTO);
	/* One page twice: more than the memory in one record. */
	st_le64(p, 0);
	st_le64(p + 8, PAGES);
	st_le64(p + 16, 0);
	st_le64(p + 24, 1);
	assert_int_equal(mig_rx_zeros(rx, p, 32, &e), -EPROTO);
	mig_rx_free(rx);
	mem_free(to);
}

/* Maps of pages go in pieces, in order and whole; bits behind the last page do not count. */
static void maps_arrive(void **state)
{
	struct fix *f = *state;
	uint64_t from[3] = { 0x123456789abcdef0, 1, UINT64_MAX }, to[3] = { 0 }, at = 0;
	uint8_t p[8 + 16];
	struct mig_record r;
	struct err e;

	assert_int_equal(mig_map_send(&f->a, MIG_LATE, from, 130, &e), 0);
	assert_int_equal(mig_recv(&f->b, &r, &e), 0);
	assert_int_equal(r.type, MIG_LATE);
	assert_int_equal(mig_map_take(to, 130, &at, f->b.buf, r.len, &e), 0);
	assert_int_equal(at, 130);
	assert_true(to[0] == from[0] && to[1] == 1 && to[2] == 3);
	assert_int_equal(mig_map_count(to, 130), (unsigned)__builtin_popcountll(from[0]) + 3);
	/* Once more; out of order; nothing; half a word; more than there is. */
	assert_int_equal(mig_map_take(to, 130, &at, f->b.buf, r.len, &e), -EPROTO);
	at = 0;
	st_le64(p, 64);
	assert_int_equal(mig_map_take(to, 130, &at, p, 16, &e), -EPROTO);
	st_le64(p, 0);
	assert_int_equal(mig_map_take(to, 130, &at, p, 8, &e), -EPROTO);
	assert_int_equal(mig_map_take(to, 130, &at, p, 20, &e), -EPROTO);
	assert_int_equal(mig_map_take(to, 64, &at, p, 24, &e), -EPROTO);
	assert_int_equal(at, 0);
	assert_int_equal(mig_map_take(to, 130, &at, p, 24, &e), 0);
	assert_int_equal(at, 128);
	st_le64(p, UINT64_MAX - 63);
	assert_int_equal(mig_map_take(to, 130, &at, p, 16, &e), -EPROTO);
}

struct sink {
	unsigned n;
	uint64_t sum;
	int ret;
};

static int put(void *opaque, uint64_t page, const uint8_t *data, struct err *e)
{
	struct sink *s = opaque;

	s->n++;
	s->sum += page + (data ? data[0] : 1000);
	return s->ret;
}

/* Pages go where they are said to, and what fails there ends it. */
static void memory_goes_elsewhere(void **state)
{
	static uint8_t p[8 + 2 * (8 + PAGE_4K)];
	struct mem *to = memory();
	struct sink s = { 0 };
	struct mig_rx *rx;
	struct err e;

	assert_int_equal(mig_rx_new(to, &rx), 0);
	mig_rx_put_by(rx, put, &s);
	st_le32(p, 2);
	st_le64(p + 8, 3);
	st_le64(p + 16, 5);
	memset(p + 24, 10, 2 * PAGE_4K);
	assert_int_equal(mig_rx_pages(rx, p, sizeof(p), &e), 0);
	assert_true(s.n == 2 && s.sum == 28);
	assert_true(mem_is_zero(mem_ram_host(to), PAGES * PAGE_4K));
	assert_int_equal(mig_rx_missing(rx), PAGES);
	s.ret = -EIO;
	assert_int_equal(mig_rx_pages(rx, p, sizeof(p), &e), -EIO);
	assert_int_equal(s.n, 3);
	st_le64(p, 7);
	st_le64(p + 8, 4);
	assert_int_equal(mig_rx_zeros(rx, p, 16, &e), -EIO);
	s.ret = 0;
	s.sum = 0;
	assert_int_equal(mig_rx_zeros(rx, p, 16, &e), 0);
	assert_true(s.n == 8 && s.sum == 7 + 8 + 9 + 10 + 4000);
	mig_rx_free(rx);
	mem_free(to);
}

static void addresses(void **state)
{
	static const char *const good[] = { "tcp:host:1", "tcp::4444", "tcp:[::1]:80", "unix:/x", "exec:cat", "fd:7" };
	static const char *const bad[] = { "", "tcp:host", "tcp:host:", "tcp:h:70000", "tcp:h:1x", "unix:", "exec:", "fd:", "fd:x", "fd:-1", "file:x" };
	struct err e;

	for (unsigned i = 0; i < ARRAY_LEN(good); i++)
		assert_int_equal(mig_uri_check(good[i], &e), 0);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(mig_uri_check(bad[i], &e), -EINVAL);
}

static void over_tcp_and_a_command(void **state)
{
	struct fix *f = *state;
	struct mig_chan c, d;
	struct mig_record r;
	unsigned port;
	char uri[40];
	struct err e;
	int fd, none = -1;

	assert_int_equal(mig_listen("tcp:127.0.0.1:0", &fd, &port, &e), 0);
	snprintf(uri, sizeof(uri), "tcp:127.0.0.1:%u", port);
	/* Where somebody listens already there is no descriptor to be had, nor to be closed once more. */
	assert_int_equal(mig_listen(uri, &none, &(unsigned){ 0 }, &e), -EADDRINUSE);
	assert_int_equal(none, -1);
	assert_int_equal(mig_connect(uri, f->stop, 2000, &c, &e), 0);
	assert_int_equal(mig_accept(fd, f->stop, 2000, &d, &e), 0);
	assert_int_equal(mig_send_u32(&c, MIG_GO, 3, &e), 0);
	d.timeout_ms = 2000;
	assert_int_equal(mig_recv(&d, &r, &e), 0);
	assert_int_equal(r.type, MIG_GO);
	assert_int_equal(mig_accept(fd, f->stop, 10, &d, &e), -ETIMEDOUT);
	mig_chan_fini(&c);
	mig_chan_fini(&d);
	close(fd);
	/* What is written comes back. */
	assert_int_equal(mig_connect("exec:cat", f->stop, 2000, &c, &e), 0);
	c.timeout_ms = 5000;
	assert_int_equal(mig_send_u32(&c, MIG_GO, 3, &e), 0);
	assert_int_equal(mig_recv(&c, &r, &e), 0);
	assert_int_equal(mig_u32(&c, &r), 3);
	mig_chan_fini(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(records_arrive, set_up, tear_down),
		cmocka_unit_test(damage_is_seen),
		cmocka_unit_test_setup_teardown(maps_arrive, set_up, tear_down),
		cmocka_unit_test(memory_goes_elsewhere),
		cmocka_unit_test_setup_teardown(order_counts, set_up, tear_down),
		cmocka_unit_test_setup_teardown(waiting_ends, set_up, tear_down),
		cmocka_unit_test_setup_teardown(memory_arrives, set_up, tear_down),
		cmocka_unit_test(nonsense_is_refused),
		cmocka_unit_test(addresses),
		cmocka_unit_test_setup_teardown(over_tcp_and_a_command, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("migrate", tests, NULL, NULL);
}
