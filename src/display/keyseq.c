// SPDX-License-Identifier: GPL-2.0-or-later
/* Chords and texts as sequences of keys, and the player. */
#include "display/keyseq.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/list.h"
#include "display/input.h"
#include "display/keys.h"

/* A key of a text: firmware keeps 15 keys that nobody has read yet, so it goes at a pace
 * that programs keep up with. */
#define TYPE_MS 10
#define RETRY_MS 20

void keyseq_free(struct keyseq *s)
{
	free(s->step);
	*s = (struct keyseq){ 0 };
}

static void add(struct keyseq *s, const struct key_info *k, bool down, unsigned wait_ms)
{
	s->step[s->n++] = (struct keyseq_step){ k->evdev, down, (uint16_t)wait_ms };
}

int keyseq_keys(const struct key_info *const *keys, unsigned n, unsigned hold_ms, struct keyseq *out, struct err *e)
{
	*out = (struct keyseq){ 0 };
	if (hold_ms > 60000)
		return err_set(e, -EINVAL, "keys are held for at most 60000 ms");
	if (!n || n > KEYSEQ_MAX_CHORD)
		return err_set(e, n ? -E2BIG : -EINVAL, "1 to %d keys are pressed at a time", KEYSEQ_MAX_CHORD);
	out->step = calloc(2 * n, sizeof(*out->step));
	if (!out->step)
		return err_set(e, -ENOMEM, "out of memory");
	for (unsigned i = 0; i < n; i++)
		add(out, keys[i], true, i + 1 == n ? hold_ms : 0);
	for (unsigned i = n; i > 0; i--)
		add(out, keys[i - 1], false, i == 1 ? TYPE_MS : 0);
	return 0;
}

int keyseq_chord(const char *text, unsigned hold_ms, struct keyseq *out, struct err *e)
{
	const struct key_info *k[KEYSEQ_MAX_CHORD];
	unsigned n = 0;

	*out = (struct keyseq){ 0 };
	for (const char *p = text;; p++) {
		size_t len = strcspn(p, "-");

		if (n == KEYSEQ_MAX_CHORD)
			return err_set(e, -E2BIG, "'%.60s': at most %d keys are pressed at a time", text, KEYSEQ_MAX_CHORD);
		k[n] = key_by_name(p, len);
		if (!k[n++])
			return err_set(e, -EINVAL, "'%.*s' is not a key; write for instance ctrl-alt-delete or shift-a",
				       (int)MIN(len, 40u), p);
		p += len;
		if (!*p)
			break;
	}
	return keyseq_keys(k, n, hold_ms, out, e);
}

/* One character of UTF-8 from *p on, which is moved behind it; 0: no character. */
static uint32_t utf8(const char **p)
{
	const uint8_t *s = (const uint8_t *)*p;
	unsigned more = s[0] < 0x80 ? 0 : s[0] >= 0xf0 ? 3 : s[0] >= 0xe0 ? 2 : s[0] >= 0xc2 ? 1 : 4;
	uint32_t c = more > 3 ? 0 : more ? s[0] & (0x3fu >> more) : s[0];

	for (unsigned i = 1; i <= more && c; i++)
		c = (s[i] & 0xc0) == 0x80 ? c << 6 | (s[i] & 0x3f) : 0;
	*p += c ? more + 1 : 1;
	return c;
}

int keyseq_text(const char *text, struct keyseq *out, struct err *e)
{
	const struct key_info *shift_key = key_by_evdev(KEY_CODE_LEFTSHIFT);
	size_t len = strlen(text);

	*out = (struct keyseq){ 0 };
	if (len > KEYSEQ_MAX_TEXT)
		return err_set(e, -E2BIG, "a text of %zu bytes is too long to be typed at once; at most %u", len,
			       KEYSEQ_MAX_TEXT);
	out->step = calloc(4 * len + 1, sizeof(*out->step));
	if (!out->step)
		return err_set(e, -ENOMEM, "out of memory");
	while (*text) {
		const char *at = text;
		uint32_t c = utf8(&text);
		bool shift;
		const struct key_info *k = c ? key_by_char(c, &shift) : NULL;

		if (!k) {
			keyseq_free(out);
			return err_set(e, -EINVAL, "'%.*s' cannot be typed: a US keyboard has no such key", (int)(text - at), at);
		}
		if (shift)
			add(out, shift_key, true, 0);
		add(out, k, true, TYPE_MS);
		add(out, k, false, shift ? 0 : TYPE_MS);
		if (shift)
			add(out, shift_key, false, TYPE_MS);
	}
	return 0;
}

/* ---- playing ---- */

struct job {
	struct list node;
	struct keyseq s;
	size_t at;
	void (*done)(void *opaque);
	void *opaque;
};

struct keyseq_player {
	struct loop *loop;
	struct input *in;
	struct loop_timer timer;
	struct list jobs;
};

static struct job *current(struct keyseq_player *p)
{
	return list_empty(&p->jobs) ? NULL : list_entry(p->jobs.next, struct job, node);
}

static void job_free(struct job *j)
{
	list_del(&j->node);
	keyseq_free(&j->s);
	free(j);
}

/* Keys nobody takes are left out, but for what is only full. */
static bool press(struct keyseq_player *p, const struct keyseq_step *s)
{
	return input_key_locked(p->in, s->code, s->down) || !input_full(p->in);
}

static void play(void *opaque)
{
	struct keyseq_player *p = opaque;
	struct job *j = current(p);
	unsigned wait = 0;

	while (j && !wait) {
		if (j->at < j->s.n) {
			const struct keyseq_step *s = &j->s.step[j->at];

			wait = press(p, s) ? (j->at++, s->wait_ms) : RETRY_MS;
			continue;
		}
		if (j->done)
			j->done(j->opaque);
		job_free(j);
		j = current(p);
	}
	if (wait)
		loop_timer_arm(&p->timer, loop_now_ns() + wait * 1000000ll);
}

int keyseq_player_new(struct loop *l, struct input *in, struct keyseq_player **out)
{
	struct keyseq_player *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->loop = l;
	p->in = in;
	list_init(&p->jobs);
	loop_timer_init(l, &p->timer, play, p);
	*out = p;
	return 0;
}

void keyseq_player_free(struct keyseq_player *p)
{
	struct job *j;

	if (!p)
		return;
	loop_timer_cancel(&p->timer);
	while ((j = current(p))) {
		for (size_t i = 0; i < j->at; i++)
			input_key_locked(p->in, j->s.step[i].code, false);
		job_free(j);
	}
	free(p);
}

int keyseq_play(struct keyseq_player *p, struct keyseq *s, void (*done)(void *opaque), void *opaque)
{
	struct job *j = calloc(1, sizeof(*j));

	if (!j) {
		keyseq_free(s);
		return -ENOMEM;
	}
	j->s = *s;
	*s = (struct keyseq){ 0 };
	j->done = done;
	j->opaque = opaque;
	list_add_tail(&p->jobs, &j->node);
	if (p->timer.heap_index < 0)
		loop_timer_arm(&p->timer, loop_now_ns());
	return 0;
}
