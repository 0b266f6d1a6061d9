// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Events, to every client that has negotiated.
 *
 * Those that a guest can cause as often as it likes go out once a second at most;
 * the last of what came meanwhile follows when the second is over.
 */
#include <time.h>

#include "control/internal.h"

#define SECOND 1000000000ll

static json_t *timestamp(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return json_pack("{s:I,s:I}", "seconds", (json_int_t)ts.tv_sec, "microseconds", (json_int_t)ts.tv_nsec / 1000);
}

static void broadcast(struct control *ctl, json_t *event)
{
	list_for_each(n, &ctl->monitors) {
		struct ctl_monitor *m = list_entry(n, struct ctl_monitor, node);

		if (m->negotiated && !m->dead)
			ctl_monitor_send(m, json_incref(event), true);
	}
	json_decref(event);
}

static void on_limit(void *opaque)
{
	struct ctl_limit *l = opaque;
	json_t *j = l->held;

	l->held = NULL;
	if (!j)
		return;
	l->next_ns = loop_now_ns() + SECOND;
	broadcast(l->ctl, j);
}

void ctl_emit_by(struct control *ctl, struct ctl_limit *l, enum ctl_event ev, json_t *data)
{
	json_t *j = json_pack("{s:o,s:s}", "timestamp", timestamp(), "event", ctl_events[ev].name);

	if (data && j)
		json_object_set_new(j, "data", data);
	else
		json_decref(data);
	if (!j)
		return;
	if (!ctl_events[ev].limited) {
		broadcast(ctl, j);
	} else if (loop_now_ns() < l->next_ns) {
		json_decref(l->held);
		l->held = j;
		loop_timer_arm(&l->timer, l->next_ns);
	} else {
		l->next_ns = loop_now_ns() + SECOND;
		broadcast(ctl, j);
	}
}

void ctl_emit(struct control *ctl, enum ctl_event ev, json_t *data)
{
	ctl_emit_by(ctl, &ctl->limit[ev], ev, data);
}

static void init(struct control *ctl, struct ctl_limit *l, unsigned n)
{
	for (; n--; l++) {
		l->ctl = ctl;
		loop_timer_init(ctl->m->loop, &l->timer, on_limit, l);
	}
}

static void fini(struct ctl_limit *l, unsigned n)
{
	for (; n--; l++) {
		loop_timer_cancel(&l->timer);
		json_decref(l->held);
	}
}

void ctl_events_init(struct control *ctl)
{
	init(ctl, ctl->limit, ARRAY_LEN(ctl->limit));
	init(ctl, ctl->port_limit, ARRAY_LEN(ctl->port_limit));
	init(ctl, ctl->cpu_limit, ARRAY_LEN(ctl->cpu_limit));
	init(ctl, ctl->memory_limit, ARRAY_LEN(ctl->memory_limit));
}

void ctl_events_fini(struct control *ctl)
{
	fini(ctl->limit, ARRAY_LEN(ctl->limit));
	fini(ctl->port_limit, ARRAY_LEN(ctl->port_limit));
	fini(ctl->cpu_limit, ARRAY_LEN(ctl->cpu_limit));
	fini(ctl->memory_limit, ARRAY_LEN(ctl->memory_limit));
}
