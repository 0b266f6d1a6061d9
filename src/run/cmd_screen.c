// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * `lodge screenshot`, `lodge sendkey` and `lodge type`: a running guest's screen
 * and keyboard, through its control socket as lodge qmp.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "display/keys.h"
#include "run/opts.h"
#include "run/qmp.h"

/* Options, --help and the number of operands.  -1: go on, else the exit status. */
static int begin(const struct verb *v, int argc, char **argv, unsigned min, unsigned max, struct opt_state *st)
{
	int ret = opts_alone(v, argc, argv, st);

	if (ret >= 0 || (st->n_words >= min && st->n_words <= max))
		return ret;
	opts_help(v, stderr);
	return 1;
}

/* One command to the guest; args are taken over.  The exit status. */
static int tell(struct qmp *q, const char *command, json_t *args, struct err *e)
{
	json_t *back = NULL;
	int ret = args ? qmp_call(q, command, args, &back, e) : err_set(e, -EINVAL, "the text is not UTF-8");

	json_decref(back);
	return ret;
}

static int end(struct qmp *q, int ret, const struct err *e)
{
	if (q)
		qmp_close(q);
	if (ret)
		fprintf(stderr, "lodge: %s\n", e->msg);
	return ret != 0;
}

/* Only virtio-gpu has more than one head. */
static int shoot(struct qmp *q, const char *path, const struct opt_state *st, struct err *e)
{
	size_t n = strlen(path);
	bool ppm = n > 4 && !strcmp(path + n - 4, ".ppm");
	const char *device = st->number ? "gpu0" : NULL;

	return tell(q, "screendump", json_pack("{s:s,s:s,s:s*,s:o*}", "filename", path, "format", ppm ? "ppm" : "png", "device", device,
					       "head", device ? json_integer(st->number) : NULL), e);
}

int screenshot_main(const struct verb *v, int argc, char **argv)
{
	char path[PATH_MAX * 2], name[PATH_MAX];
	struct opt_state st = { 0 };
	struct qmp *q = NULL;
	struct err e = { "" };
	const char *base;
	int ret = begin(v, argc, argv, 1, 2, &st);

	if (ret >= 0)
		return ret;
	base = strrchr(st.words[0], '/');
	snprintf(name, sizeof(name), "%s.png", base ? base + 1 : st.words[0]);
	ret = whole_path(st.n_words > 1 ? st.words[1] : name, path, sizeof(path), &e);
	if (!ret)
		ret = qmp_open(st.words[0], 0, &q, &e);
	if (!ret)
		ret = shoot(q, path, &st, &e);
	if (!ret)
		printf("%s\n", path);
	return end(q, ret, &e);
}

/* "ctrl-alt-f1" as a list of key numbers.  NULL: *e says what is no key. */
static json_t *chord(const char *text, struct err *e)
{
	json_t *keys = json_array();

	for (const char *p = text;; p++) {
		size_t len = strcspn(p, "-");
		const struct key_info *k = key_by_name(p, len);

		if (!k) {
			err_set(e, -EINVAL, "'%.*s' is not a key; write for instance ctrl-alt-delete or shift-a", (int)(len < 40 ? len : 40), p);
			json_decref(keys);
			return NULL;
		}
		json_array_append_new(keys, json_pack("{s:s,s:i}", "type", "number", "data", k->set1));
		p += len;
		if (!*p)
			return keys;
	}
}

int sendkey_main(const struct verb *v, int argc, char **argv)
{
	struct opt_state st = { 0 };
	json_t *keys[sizeof(st.words) / sizeof(st.words[0])];
	struct qmp *q = NULL;
	struct err e = { "" };
	unsigned n;
	int ret = begin(v, argc, argv, 2, sizeof(st.words) / sizeof(st.words[0]), &st);

	if (ret >= 0)
		return ret;
	/* All of them before the first is pressed. */
	ret = 0;
	for (n = 0; !ret && n + 1 < st.n_words; n++) {
		keys[n] = chord(st.words[n + 1], &e);
		ret = keys[n] ? 0 : -EINVAL;
	}
	if (!ret)
		ret = qmp_open(st.words[0], 0, &q, &e);
	for (unsigned i = 0; i < n; i++) {
		if (ret)
			json_decref(keys[i]);
		else
			ret = tell(q, "send-key", json_pack("{s:o,s:o*}", "keys", keys[i], "hold-time",
							    st.number_given ? json_integer(st.number) : NULL), &e);
	}
	return end(q, ret, &e);
}

int type_main(const struct verb *v, int argc, char **argv)
{
	struct opt_state st = { 0 };
	struct qmp *q = NULL;
	struct err e = { "" };
	char *text = NULL;
	int ret = begin(v, argc, argv, 2, 2, &st);

	if (ret >= 0)
		return ret;
	ret = asprintf(&text, "%s%s", st.words[1], st.enter ? "\n" : "") < 0 ? err_set(&e, -ENOMEM, "out of memory") : 0;
	if (!ret)
		ret = qmp_open(st.words[0], 0, &q, &e);
	if (!ret)
		ret = tell(q, "x-lodge-type", json_pack("{s:s}", "text", text), &e);
	free(text);
	return end(q, ret, &e);
}
