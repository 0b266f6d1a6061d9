/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promises of the line editor: what the keys make of a line, and that a screen which understands the few sequences
 * it sends shows that line with the cursor where it is; whatever is typed.
 */
#include "../unit.h"

#include "base/bits.h"
#include "control/readline.h"

/* A screen of one line that understands cursor left, right, and erase to the end. */
struct screen {
	char text[READLINE_MAX + 64];
	size_t at, end;
	unsigned esc, lines;
	char raw[1 << 16];
	size_t n_raw;
};

static void print(void *opaque, const char *text, size_t len)
{
	struct screen *s = opaque;

	for (size_t i = 0; i < len; i++) {
		char c = text[i];

		s->raw[s->n_raw++ % sizeof(s->raw)] = c;
		if (s->esc == 2) {
			assert_true(c == 'C' || c == 'D' || c == 'K');
			assert_true(c != 'D' || s->at);
			s->at += c == 'C';
			s->at -= c == 'D';
			s->end = c == 'K' ? s->at : s->end;
			s->esc = 0;
		} else if (s->esc == 1) {
			assert_int_equal(c, '[');
			s->esc = 2;
		} else if (c == '\033') {
			s->esc = 1;
		} else if (c == '\n') {
			s->lines++;
		} else if (c == '\r') {
			s->at = s->end = 0;
		} else {
			s->text[s->at++] = c;
			s->end = s->at > s->end ? s->at : s->end;
		}
		assert_true(s->at <= s->end && s->end < sizeof(s->text));
	}
}

static struct screen s;
static struct readline r;

static int setup(void **state)
{
	memset(&s, 0, sizeof(s));
	r = (struct readline){ .print = print, .opaque = &s, .prompt = "> " };
	readline_start(&r);
	return 0;
}

static int teardown(void **state)
{
	readline_fini(&r);
	return 0;
}

static void shows(void)
{
	assert_int_equal(s.end, r.len + 2);
	assert_memory_equal(s.text, "> ", 2);
	assert_memory_equal(s.text + 2, r.line, r.len);
	assert_int_equal(s.at, r.at + 2);
}

/* The line that the keys make when Enter is the last one. */
static const char *keys(const char *text)
{
	for (; *text; text++) {
		if (readline_key(&r, (uint8_t)*text)) {
			assert_string_equal(text + 1, "");
			readline_start(&r);
			return r.line;
		}
		shows();
	}
	return NULL;
}

static void editing(void **state)
{
	static const struct { const char *keys, *line; } of[] = {
		{ "abc\r", "abc" }, { "abc\n", "abc" }, { "\r", "" },
		{ "abd\002c\r", "abcd" }, { "abd\033[Dc\r", "abcd" }, { "bc\001a\005d\r", "abcd" }, { "bc\033[Ha\033[Fd\r", "abcd" },
		{ "bc\033OHa\033OFd\r", "abcd" }, { "bc\033[1~a\033[4~d\r", "abcd" },
		{ "abx\177c\r", "abc" }, { "abx\bc\r", "abc" }, { "\177\177a\r", "a" },
		{ "abc\001\004\r", "bc" }, { "abc\001\033[3~\r", "bc" }, { "abc\004\r", "abc" },
		{ "one two  \027x\r", "one x" }, { "one two\002\027\r", "one o" }, { "one two\002\013\r", "one tw" }, { "one two\002\025\r", "o" },
		{ "\033[99999999999999~a\r", "a" }, { "\033za\r", "a" }, { "\033[C\033[Da\r", "a" }, { "a\tb\r", "ab" },
	};

	for (unsigned i = 0; i < ARRAY_LEN(of); i++)
		assert_string_equal(keys(of[i].keys), of[i].line);
	keys("abc");
	readline_insert(&r, "de");
	shows();
	assert_string_equal(keys("\r"), "abcde");
}

static void history(void **state)
{
	keys("first\r");
	keys("second\r");
	keys("third\r");
	assert_string_equal(keys("\033[A\033[A\r"), "second");
	/* That one is the newest now, and is there once. */
	assert_string_equal(keys("\020\020\r"), "third");
	assert_string_equal(keys("\033[A\033[A\033[A\033[A\033[A\r"), "first");
	assert_string_equal(keys("\020\016\r"), "");
	for (int i = 0; i < 3 * READLINE_HISTORY; i++) {
		char line[16];

		snprintf(line, sizeof(line), "n%d\r", i);
		keys(line);
	}
	assert_int_equal(r.n_history, READLINE_HISTORY);
	assert_string_equal(keys("\020\r"), "n191");
}

/* What QEMU's monitor sends for it, to the byte. */
static void echo(void **state)
{
	s.n_raw = 0;
	keys("ab\r");
	s.raw[s.n_raw] = '\0';
	assert_string_equal(s.raw, "a\033[K\033[Dab\033[K\r\n> ");
}

static void long_and_random(void **state)
{
	uint32_t seed = 1;

	for (unsigned i = 0; i < 20000; i++) {
		static const char likely[] = "\001\002\004\005\006\t\013\016\020\025\027\033[OABCDFH137~\177\b xyz";

		seed = seed * 1664525 + 1013904223;
		if (readline_key(&r, (uint8_t)likely[(seed >> 16) % (sizeof(likely) - 1)]))
			readline_start(&r);
		shows();
	}
	readline_key(&r, '\r');
	readline_start(&r);
	for (unsigned i = 0; i < READLINE_MAX + 100; i++)
		readline_key(&r, 'x');
	shows();
	assert_int_equal(r.len, READLINE_MAX);
	assert_true(readline_key(&r, '\r'));
	assert_int_equal(strlen(r.line), READLINE_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(editing, setup, teardown),
		cmocka_unit_test_setup_teardown(history, setup, teardown),
		cmocka_unit_test_setup_teardown(echo, setup, teardown),
		cmocka_unit_test_setup_teardown(long_and_random, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
