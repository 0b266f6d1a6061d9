/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promises of base: error text fits and stays terminated, vectors are never
 * overrun, the heap gives deadlines in order whatever is removed, log lines are
 * whole and cannot drive the terminal.
 */
#include "../unit.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/err.h"
#include "base/heap.h"
#include "base/iov.h"
#include "base/log.h"
#include "base/text.h"

static void err_keeps_code_and_fits(void **state)
{
	struct err e;
	char big[2000];

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	assert_int_equal(err_set(&e, -ENOENT, "%s: gone", "disk"), -ENOENT);
	assert_string_equal(e.msg, "disk: gone");
	assert_int_equal(err_prefix(&e, -EIO, "vm %d", 7), -EIO);
	assert_string_equal(e.msg, "vm 7: disk: gone");
	err_set(&e, -1, "%s", big);
	assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
	err_prefix(&e, -1, "a");
	assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
	assert_memory_equal(e.msg, "a: x", 4);
	err_prefix(&e, -1, "%s", big);
	assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
	err_set(&e, -1, "file '%s'", "a\x1b[2J\nb\177");
	err_prefix(&e, -1, "%s", "\t\r");
	assert_string_equal(e.msg, "??: file 'a?[2J?b?'");
	assert_int_equal(err_set(NULL, -EPERM, "nobody listens"), -EPERM);
	assert_int_equal(err_prefix(NULL, -EPERM, "nobody listens"), -EPERM);
}

static void iov_copies_stop_at_the_end(void **state)
{
	char a[4] = "abc", b[3] = "de", out[16];
	struct iovec iov[3] = { { a, 3 }, { NULL, 0 }, { b, 2 } };

	assert_int_equal(iov_size(iov, 3), 5);
	memset(out, 0, sizeof(out));
	assert_int_equal(iov_to_buf(iov, 3, 1, out, sizeof(out)), 4);
	assert_string_equal(out, "bcde");
	assert_int_equal(iov_to_buf(iov, 3, 5, out, 1), 0);
	assert_int_equal(iov_to_buf(iov, 3, SIZE_MAX, out, 1), 0);
	assert_int_equal(iov_from_buf(iov, 3, 2, "XYZ", 3), 3);
	assert_string_equal(a, "abX");
	assert_string_equal(b, "YZ");
	assert_int_equal(iov_memset(iov, 3, 4, '!', 9), 1);
	assert_string_equal(b, "Y!");
}

static void iov_size_saturates(void **state)
{
	struct iovec iov[2] = { { NULL, SIZE_MAX }, { NULL, 2 } };

	assert_true(iov_size(iov, 2) == SIZE_MAX);
}

static void iov_slice_is_exact_or_refused(void **state)
{
	char a[4], b[4];
	struct iovec iov[2] = { { a, 4 }, { b, 4 } }, out[2];

	assert_int_equal(iov_slice(iov, 2, 3, 2, out, 2), 2);
	assert_ptr_equal(out[0].iov_base, a + 3);
	assert_int_equal(out[0].iov_len, 1);
	assert_ptr_equal(out[1].iov_base, b);
	assert_int_equal(out[1].iov_len, 1);
	assert_int_equal(iov_slice(iov, 2, 3, 2, out, 1), -1);
	assert_int_equal(iov_slice(iov, 2, 4, 5, out, 2), -1);
	assert_int_equal(iov_slice(iov, 2, 8, 0, out, 2), 0);
}

static void heap_sorts_and_forgets(void **state)
{
	enum { N = 500 };
	static int index[N];
	static int64_t key[N];
	struct heap h = { 0 };
	int64_t last = INT64_MIN;
	unsigned seed = 1, left = N;

	for (int i = 0; i < N; i++) {
		index[i] = -1;
		key[i] = rand_r(&seed) % 100;
		assert_int_equal(heap_insert(&h, key[i], &index[i], &key[i]), 0);
	}
	for (int i = 0; i < N; i += 3, left--) {
		heap_remove(&h, &index[i]);
		assert_int_equal(index[i], -1);
		heap_remove(&h, &index[i]);	/* twice is harmless */
	}
	while (heap_top(&h)) {
		const struct heap_entry *t = heap_top(&h);

		assert_true(t->key >= last);
		last = t->key;
		heap_remove(&h, t->index);
		left--;
	}
	assert_int_equal(left, 0);
	heap_fini(&h);
}

static void log_line_is_whole_and_harmless(void **state)
{
	char buf[256] = "";
	int p[2], saved = dup(STDERR_FILENO);
	ssize_t n;

	assert_int_equal(pipe(p), 0);
	dup2(p[1], STDERR_FILENO);
	log_error("bad \033[2J %s", "name");
	log_debug("not shown by default");
	dup2(saved, STDERR_FILENO);
	close(p[1]);
	close(saved);
	n = read(p[0], buf, sizeof(buf) - 1);
	close(p[0]);
	assert_true(n > 0);
	assert_string_equal(buf, "lodge: error: bad ?[2J name\n");
}

static void text_keeps_letters_only(void **state)
{
	char s[] = "a\x1b[2J\r\n\tz\xc3\xbcrich\xc2\x9b""1m\xc2\xa0\x7f\xc2";

	assert_ptr_equal(text_plain(s, "\n"), s);
	assert_string_equal(s, "a?[2J?\n?z\xc3\xbcrich??1m\xc2\xa0?\xc2");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(err_keeps_code_and_fits),
		cmocka_unit_test(iov_copies_stop_at_the_end),
		cmocka_unit_test(iov_size_saturates),
		cmocka_unit_test(iov_slice_is_exact_or_refused),
		cmocka_unit_test(heap_sorts_and_forgets),
		cmocka_unit_test(log_line_is_whole_and_harmless),
		cmocka_unit_test(text_keeps_letters_only),
	};

	unsetenv("LODGE_LOG");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
