// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Monitors for people: a chardev with a prompt.
 *
 * Keys go to the line editor (readline.h); a whole line is run by a posted piece of work, not inside of the chardev's
 * call, since it may change that chardev.  No further key is taken until its answer has gone into the chardev's
 * buffer, so what waits here is one answer at most.  On a mux a monitor without the focus keeps what it has to say.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "chardev/chardev.h"
#include "control/hmp.h"
#include "control/internal.h"
#include "control/readline.h"
#include "vm/chardevs.h"

struct hmp_monitor {
	struct list node;
	struct control *ctl;
	struct chardev *chr;
	struct readline r;
	struct loop_bh run;
	bool whole;			/* r.line waits to be run */
	bool busy;			/* it runs */
	bool away;			/* another one on the mux has the focus */
	bool greeted;
	char *out;			/* what the chardev has not taken */
	size_t out_len, out_off;
};

/* ---- output ---- */

static bool flush(struct hmp_monitor *m)
{
	if (m->away)
		return !m->out_len;
	if (m->out_off < m->out_len)
		m->out_off += chardev_write(m->chr, (const uint8_t *)m->out + m->out_off, m->out_len - m->out_off);
	if (m->out_off < m->out_len)
		return false;
	free(m->out);
	m->out = NULL;
	m->out_len = m->out_off = 0;
	return true;
}

static void put(void *opaque, const char *text, size_t len)
{
	struct hmp_monitor *m = opaque;
	char *p = len ? realloc(m->out, m->out_len + len) : NULL;

	if (!p)
		return;			/* some of the text is missing on the screen */
	memcpy(p + m->out_len, text, len);
	m->out = p;
	m->out_len += len;
}

static void put_text(struct hmp_monitor *m, const char *text)
{
	put(m, text, strlen(text));
}

/* ---- lines ---- */

static void on_text(void *opaque, char *text)
{
	struct hmp_monitor *m = opaque;

	put_text(m, text ? text : "Error: out of memory\r\n");
	free(text);
	m->whole = m->busy = false;
	readline_start(&m->r);
	flush(m);
	chardev_kick(m->chr);
}

static void run_line(void *opaque)
{
	struct hmp_monitor *m = opaque;

	if (!m->whole || m->busy || m->out_len)
		return;
	m->busy = true;
	hmp_line(m->ctl, m->r.line, 0, on_text, m);
}

static void complete(void *opaque, const char *before)
{
	struct hmp_monitor *m = opaque;
	char *more = NULL, *all = NULL;

	if (!hmp_complete(before, &more, &all))
		return;
	if (*all) {
		put_text(m, "\r\n");
		put_text(m, all);
		readline_show(&m->r);
	}
	readline_insert(&m->r, more);
	free(more);
	free(all);
}

/* ---- the chardev's front ---- */

static size_t can_read(void *opaque)
{
	struct hmp_monitor *m = opaque;

	return m->whole || m->busy || m->out_len ? 0 : 1;
}

static void on_read(void *opaque, const uint8_t *buf, size_t len)
{
	struct hmp_monitor *m = opaque;

	for (size_t i = 0; i < len && !m->whole; i++)
		m->whole = readline_key(&m->r, buf[i]);
	flush(m);
	if (m->whole)
		loop_bh_post(&m->run);
}

static void on_writable(void *opaque)
{
	struct hmp_monitor *m = opaque;

	if (!flush(m))
		return;
	if (m->whole)
		loop_bh_post(&m->run);
	chardev_kick(m->chr);
}

static void greet(struct hmp_monitor *m)
{
	m->greeted = true;
	put_text(m, "QEMU 7.2.0 monitor - type 'help' for more information\r\n");
	readline_start(&m->r);
	flush(m);
}

/* Another one begins with nothing of what the last one typed or did not read. */
static void on_opened(void *opaque)
{
	struct hmp_monitor *m = opaque;

	free(m->out);
	m->out = NULL;
	m->out_len = m->out_off = 0;
	m->whole = false;
	greet(m);
}

static void on_focus(void *opaque, bool here)
{
	struct hmp_monitor *m = opaque;

	if (!here && m->greeted && !m->away)
		put_text(m, "\r\n");
	if (!here)
		flush(m);
	m->away = !here;
	if (!here)
		return;
	if (!m->out_len && m->greeted)
		readline_show(&m->r);
	on_writable(m);
}

/* ---- life ---- */

int hmp_monitor_new(struct control *ctl, const char *id, struct err *e)
{
	struct hmp_monitor *m = calloc(1, sizeof(*m));
	int ret;

	if (!m)
		return err_set(e, -ENOMEM, "out of memory");
	m->ctl = ctl;
	ret = vm_chardev_take(ctl->vm, id, true, &m->chr, e);
	if (ret) {
		free(m);
		return ret;
	}
	m->r = (struct readline){ .print = put, .complete = complete, .opaque = m, .prompt = "(qemu) " };
	loop_bh_init(ctl->m->loop, &m->run, run_line, m);
	list_add_tail(&ctl->hmps, &m->node);
	m->away = chardev_mux_away(m->chr);
	chardev_attach(m->chr, &(struct chardev_front){
		.can_read = can_read, .read = on_read, .writable = on_writable, .opened = on_opened, .focus = on_focus, .answers = true, .opaque = m,
	});
	if (chardev_is_open(m->chr))
		greet(m);
	return 0;
}

void hmp_monitors_free(struct control *ctl)
{
	list_for_each_safe(n, &ctl->hmps) {
		struct hmp_monitor *m = list_entry(n, struct hmp_monitor, node);

		m->away = false;
		flush(m);
		chardev_attach(m->chr, &(struct chardev_front){ 0 });
		loop_bh_cancel(&m->run);
		readline_fini(&m->r);
		free(m->out);
		list_del(&m->node);
		free(m);
	}
}
