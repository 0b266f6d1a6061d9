// SPDX-License-Identifier: GPL-2.0-or-later
/* The cutting of a client's bytes into texts, and values against types. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/address.h"
#include "control/schema_gen.h"
#include "control/split.h"
#include "../unit.h"

/* All texts of `in`, fed `step` bytes at a time, as "text|text|!why|". */
static void cut(const char *in, size_t len, size_t step, char *out, size_t room)
{
	struct ctl_split s = { 0 };
	size_t at = 0, used, n = 0;

	out[0] = '\0';
	while (at < len) {
		enum ctl_split_result r = ctl_split_feed(&s, in + at, len - at < step ? len - at : step, &used);

		at += used;
		if (r == CTL_SPLIT_MORE)
			continue;
		n += (size_t)snprintf(out + n, room - n, "%s%.*s|", r == CTL_SPLIT_BAD ? "!" : "",
				      r == CTL_SPLIT_BAD ? 60 : (int)s.len, r == CTL_SPLIT_BAD ? s.why : s.buf);
		ctl_split_next(&s);
	}
	ctl_split_fini(&s);
}

static void test_texts(void **state)
{
	static const struct { const char *in, *out; } of[] = {
		{ "{\"a\": 1}{\"b\":[{}]}", "{\"a\": 1}|{\"b\":[{}]}|" },
		{ " \r\n{\"a\":\"}{\\\"\"} [1,2]", "{\"a\":\"}{\\\"\"}|[1,2]|" },
		{ "{'a': 'it\\'s \"x\"'}", "{\"a\": \"it's \\\"x\\\"\"}|" },
		{ "hello {\"a\":1}", "hello|{\"a\":1}|" },
		{ "{\"a\": \"open\n{\"b\":2}", "!JSON parse error, invalid character in a string|{\"b\":2}|" },
		{ "}{\"a\":1}\n{}", "}{\"a\":1}|{}|" },
		{ "{\"a\":", "" },
	};
	char out[512];

	for (size_t i = 0; i < sizeof(of) / sizeof(of[0]); i++)
		for (size_t step = 1; step < 30; step += 7) {
			cut(of[i].in, strlen(of[i].in), step, out, sizeof(out));
			assert_string_equal(out, of[i].out);
		}
}

/* Small in bytes, large in memory. */
static void test_values(void **state)
{
	size_t len = 3u * CTL_MAX_VALUES + 4;
	char *text = malloc(len), out[64];

	for (size_t i = 0; i < CTL_MAX_VALUES; i++)
		memcpy(text + 1 + 3 * i, "{},", 3);
	text[0] = '[';
	text[3 * CTL_MAX_VALUES] = ']';
	cut(text, 3 * CTL_MAX_VALUES + 1, 1000, out, sizeof(out));
	assert_string_equal(out, "!JSON token count limit exceeded|");
	/* Within a string it is text. */
	memset(text, ',', len);
	memcpy(text, "[\"", 2);
	memcpy(text + len - 2, "\"]", 2);
	cut(text, len, 1000, out, sizeof(out));
	assert_int_equal(out[0], '[');
	free(text);
}

/* What is too much is forgotten, and what follows is understood. */
static void test_bounds(void **state)
{
	size_t len = 3 * CTL_MAX_MESSAGE, used;
	char *big = malloc(len), out[512], deep[300];
	struct ctl_split s = { 0 };

	memset(big, 'x', len);
	memcpy(big, "{\"a\":\"", 6);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(ctl_split_feed(&s, big + (i ? 6 : 0), len - 6, &used), CTL_SPLIT_MORE);
	assert_true(s.cap <= CTL_MAX_MESSAGE);
	assert_int_equal(ctl_split_feed(&s, "\"}", 2, &used), CTL_SPLIT_BAD);
	assert_string_equal(s.why, "JSON token size limit exceeded");
	ctl_split_next(&s);
	assert_null(s.buf);
	assert_int_equal(ctl_split_feed(&s, "{}", 2, &used), CTL_SPLIT_TEXT);
	ctl_split_fini(&s);
	free(big);

	memset(deep, '[', CTL_MAX_DEPTH + 1);
	memset(deep + CTL_MAX_DEPTH + 1, ']', CTL_MAX_DEPTH + 1);
	cut(deep, 2 * CTL_MAX_DEPTH + 2, 1000, out, sizeof(out));
	assert_string_equal(out, "!JSON nesting depth limit exceeded|");
	cut(deep + 1, 2 * CTL_MAX_DEPTH, 1000, out, sizeof(out));
	assert_int_equal(out[0], '[');
}

static void check(const struct ctl_type *t, const char *json, const char *want)
{
	json_t *j = json_loads(json, JSON_DECODE_ANY, NULL);
	struct err e = { .msg = "" };

	assert_non_null(j);
	assert_int_equal(ctl_check(t, j, "", &e) != 0, *want != 0);
	assert_string_equal(e.msg, want);
	json_decref(j);
}

static void test_types(void **state)
{
	const struct ctl_command *cmd = ctl_find_command("add-fd");

	assert_non_null(cmd);
	assert_null(ctl_find_command("add-f"));
	assert_null(ctl_find_command("zzz"));
	check(cmd->args, "{}", "");
	check(cmd->args, "{\"fdset-id\": 9223372036854775807, \"opaque\": \"x\"}", "");
	check(cmd->args, "{\"fdset-id\": 1.0}", "Invalid parameter type for 'fdset-id', expected: integer");
	check(cmd->args, "{\"fdset-id\": \"1\"}", "Invalid parameter type for 'fdset-id', expected: integer");
	check(cmd->args, "{\"opaque\": null}", "Invalid parameter type for 'opaque', expected: string");
	check(cmd->args, "{\"x\": 1}", "Parameter 'x' is unexpected");
	check(ctl_find_command("remove-fd")->args, "{}", "Parameter 'fdset-id' is missing");
	check(ctl_find_command("qmp_capabilities")->args, "{\"enable\": [\"oob\", \"x\"]}",
	      "Parameter 'null' does not accept value 'x'");
	check(ctl_find_command("qmp_capabilities")->args, "{\"enable\": \"oob\"}",
	      "Invalid parameter type for 'enable', expected: array");
	assert_true(ctl_n_commands > 10);
	for (size_t i = 1; i < ctl_n_commands; i++)
		assert_true(strcmp(ctl_commands[i - 1].name, ctl_commands[i].name) < 0);
}

/* The schema is whole: every name that is used is defined, every command and event is there. */
static void test_schema(void **state)
{
	json_t *all = json_loads(ctl_schema_json, 0, NULL), *names = json_object(), *x, *m;
	static const char *const refs[] = { "arg-type", "ret-type", "element-type" };
	size_t i, k;

	assert_non_null(all);
	json_array_foreach(all, i, x)
		json_object_set(names, json_string_value(json_object_get(x, "name")), x);
	assert_int_equal(json_object_size(names), json_array_size(all));
	json_array_foreach(all, i, x) {
		for (k = 0; k < 3; k++)
			if (json_object_get(x, refs[k]))
				assert_non_null(json_object_get(names, json_string_value(json_object_get(x, refs[k]))));
		json_array_foreach(json_object_get(x, "members"), k, m)
			if (json_object_get(m, "type"))
				assert_non_null(json_object_get(names, json_string_value(json_object_get(m, "type"))));
	}
	for (i = 0; i < ctl_n_commands; i++)
		assert_non_null(json_object_get(names, ctl_commands[i].name));
	json_decref(names);
	json_decref(all);
}

static void test_addresses(void **state)
{
	struct ctl_address a;
	struct err e;

	assert_int_equal(ctl_address_parse("unix:/x/y,server=on,wait=off", &a, &e), 0);
	assert_true(a.where == CTL_AT_UNIX && a.server && !a.wait && !strcmp(a.path, "/x/y"));
	assert_int_equal(ctl_address_parse("unix:x,server,nowait", &a, &e), 0);
	assert_true(a.server && !a.wait);
	assert_int_equal(ctl_address_parse("tcp:[::1]:4444,server=off", &a, &e), 0);
	assert_true(a.where == CTL_AT_TCP && !a.server && !a.wait && a.port == 4444 && !strcmp(a.host, "::1"));
	assert_int_equal(ctl_address_parse("tcp::0", &a, &e), 0);
	assert_true(a.wait && !a.host[0]);
	assert_int_equal(ctl_address_parse("stdio,pretty=on", &a, &e), 0);
	assert_true(a.pretty && !a.wait);
	assert_int_equal(ctl_address_parse("fd:7", &a, &e), 0);
	for (const char *const *bad = (const char *const[]){ "", "unix:", "tcp:x", "tcp:x:70000", "fd:1", "fd:x", "stdio,wait=on",
							     "unix:x,wait=perhaps", "unix:x,foo=on", "vc", NULL }; *bad; bad++)
		assert_int_equal(ctl_address_parse(*bad, &a, &e), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_texts), cmocka_unit_test(test_bounds), cmocka_unit_test(test_values), cmocka_unit_test(test_types),
		cmocka_unit_test(test_schema), cmocka_unit_test(test_addresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
