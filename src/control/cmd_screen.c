// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What is seen and typed: pictures of the screen, keys and pointers, the VNC server.
 *
 * A picture is copied at once, encoded and written by a thread, and the command is
 * answered then; without a client (HMP), which nobody could answer later, all of it is
 * done at once.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "control/internal.h"
#include "display/display.h"
#include "display/input.h"
#include "display/keys.h"
#include "display/keyseq.h"
#include "display/png.h"
#include "display/vnc/vnc.h"

#define HOLD_MS 100
#define MAX_SHOTS 4			/* written at a time */
#define PATIENCE_NS 10000000000ll	/* for who is to read a pipe */

/* ---- pictures ---- */

struct shot {
	struct list node;
	struct ctl_call *call;
	struct list waiting;		/* the call alone */
	struct surface s;
	enum picture_format format;
	char *path;
	pthread_t thread;
	struct loop_bh done;
	_Atomic bool stop;		/* the VM ends: no more waiting for who reads a pipe */
	struct err e;
	int ret;
};

static struct display *screen_of(struct ctl_call *c, const struct ctl_args_screendump *a)
{
	const char *name = vm_config_of(c->ctl->vm)->vga == VM_VGA_STD ? "vga" : "gpu0";
	struct display *d = vm_screen(c->ctl->vm, 0);

	if (a->has_head && !a->device)
		ctl_fail(c, CTL_GENERIC_ERROR, "'head' must be specified together with 'device'");
	else if (!d)
		ctl_fail(c, CTL_GENERIC_ERROR, "There is no console to take a screendump from");
	else if (a->device && strcmp(a->device, name))
		ctl_fail(c, CTL_DEVICE_NOT_FOUND, "Device '%.64s' not found", a->device);
	else if (a->has_head && (a->head < 0 || a->head >= vm_config_of(c->ctl->vm)->outputs))
		ctl_fail(c, CTL_GENERIC_ERROR, "Device '%.64s' has no head %lld", a->device, (long long)a->head);
	else
		return vm_screen(c->ctl->vm, a->has_head ? (unsigned)a->head : 0);
	return NULL;
}

static void shot_free(struct shot *s)
{
	free(s->s.pixels);
	free(s->path);
	free(s);
}

static void *write_shot(void *opaque)
{
	struct shot *s = opaque;
	const struct picture_patience pa = { PATIENCE_NS, &s->stop };

	pthread_setname_np(pthread_self(), "screendump");
	s->ret = picture_write(&s->s, s->format, s->path, &pa, &s->e);
	loop_bh_post(&s->done);
	return NULL;
}

static void shot_done(void *opaque)
{
	struct shot *s = opaque;

	pthread_join(s->thread, NULL);
	loop_bh_cancel(&s->done);	/* the thread may have posted it just now: ctl_screen_fini */
	list_del(&s->node);
	ctl_failed(s->call, s->ret, &s->e);
	ctl_answer(s->call);
	shot_free(s);
}

void ctl_screen_fini(struct control *ctl)
{
	list_for_each(n, &ctl->shots)
		atomic_store(&list_entry(n, struct shot, node)->stop, true);
	list_for_each_safe(n, &ctl->shots)
		shot_done(list_entry(n, struct shot, node));
	list_for_each_safe(n, &ctl->typing)
		ctl_answer(list_entry(n, struct ctl_call, node));
}

static void start_shot(struct ctl_call *c, struct shot *s)
{
	sigset_t all, old;
	int ret;

	list_init(&s->waiting);
	loop_bh_init(c->ctl->m->loop, &s->done, shot_done, s);
	s->call = ctl_defer(c, &s->waiting);
	if (!s->call) {
		shot_free(s);
		return;
	}
	list_add_tail(&c->ctl->shots, &s->node);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	ret = pthread_create(&s->thread, NULL, write_shot, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!ret)
		return;
	list_del(&s->node);
	ctl_fail(s->call, CTL_GENERIC_ERROR, "no thread for a picture: %s", strerror(ret));
	ctl_answer(s->call);
	shot_free(s);
}

static unsigned count(const struct list *l)
{
	unsigned n = 0;

	list_for_each(i, l)
		n++;
	return n;
}

void ctl_cmd_screendump(struct ctl_call *c, const struct ctl_args_screendump *a)
{
	struct display *d = screen_of(c, a);
	struct shot *s;
	int ret;

	if (!d)
		return;
	if (count(&c->ctl->shots) >= MAX_SHOTS) {
		ctl_fail(c, CTL_GENERIC_ERROR, "%d pictures are being written already", MAX_SHOTS);
		return;
	}
	s = calloc(1, sizeof(*s));
	if (s)
		s->path = strdup(a->filename);
	ret = s && s->path ? display_copy(d, &s->s) : -ENOMEM;
	if (ret) {
		ctl_fail(c, CTL_GENERIC_ERROR, ret == -ENODATA ? "the screen shows nothing: no mode is set" : "out of memory");
		if (s)
			shot_free(s);
		return;
	}
	s->format = a->has_format ? (enum picture_format)a->format : PICTURE_PPM;
	if (c->mon && !c->ctl->ending) {
		start_shot(c, s);
		return;
	}
	ret = picture_write(&s->s, s->format, s->path, NULL, &s->e);
	ctl_failed(c, ret, &s->e);
	shot_free(s);
}

/* ---- keys ---- */

static bool has_input(struct ctl_call *c)
{
	if (vm_input(c->ctl->vm))
		return true;
	ctl_fail(c, CTL_GENERIC_ERROR, "this guest has neither keyboard nor mouse");
	return false;
}

/* A KeyValue.  NULL: the command has failed. */
static const struct key_info *key_of(struct ctl_call *c, const json_t *value)
{
	const json_t *data = json_object_get(value, "data");
	const char *name = json_string_value(data);
	json_int_t n = json_integer_value(data);
	const struct key_info *k;

	k = name ? key_by_name(name, strlen(name)) : n > 0 && n < 256 ? key_by_set1((unsigned)n) : NULL;
	if (k)
		return k;
	if (name)
		ctl_fail(c, CTL_GENERIC_ERROR, "the guest's keyboard has no key '%s'", name);
	else
		ctl_fail(c, CTL_GENERIC_ERROR, "the guest's keyboard has no key number %lld", (long long)n);
	return NULL;
}

void ctl_cmd_send_key(struct ctl_call *c, const struct ctl_args_send_key *a)
{
	const struct key_info *k[KEYSEQ_MAX_CHORD];
	size_t n = json_array_size(a->keys);
	struct keyseq s;
	struct err e;
	int ret;

	if (!has_input(c))
		return;
	if (a->has_hold_time && (a->hold_time < 0 || a->hold_time > 60000)) {
		ctl_fail(c, CTL_GENERIC_ERROR, "Parameter 'hold-time' expects 0 to 60000 ms");
		return;
	}
	for (size_t i = 0; i < n && i < ARRAY_LEN(k); i++) {
		k[i] = key_of(c, json_array_get(a->keys, i));
		if (!k[i])
			return;
	}
	ret = keyseq_keys(k, (unsigned)n, a->has_hold_time ? (unsigned)a->hold_time : HOLD_MS, &s, &e);
	if (!ctl_failed(c, ret, &e) && keyseq_play(vm_typist(c->ctl->vm), &s, NULL, NULL))
		ctl_fail(c, CTL_GENERIC_ERROR, "out of memory");
}

static void typed(void *opaque) { ctl_answer(opaque); }

void ctl_cmd_x_lodge_type(struct ctl_call *c, const struct ctl_args_x_lodge_type *a)
{
	struct ctl_call *later = NULL;
	struct keyseq s;
	struct err e;

	if (!has_input(c) || ctl_failed(c, keyseq_text(a->text, &s, &e), &e))
		return;
	if (c->mon && !c->ctl->ending)
		later = ctl_defer(c, &c->ctl->typing);
	if (!keyseq_play(vm_typist(c->ctl->vm), &s, later ? typed : NULL, later))
		return;
	ctl_fail(later ? later : c, CTL_GENERIC_ERROR, "out of memory");
	if (later)
		ctl_answer(later);
}

/* ---- pointers ---- */

/* Motions that have not been told yet. */
struct motion {
	int64_t dx, dy;
	int wheel;
	bool any;
};

static int small(int64_t v) { return (int)MAX(MIN(v, 32767), -32767); }

/* Buttons go where the last motion went. */
static void flush_motion(struct control *ctl, struct motion *m)
{
	struct input *in = vm_input(ctl->vm);

	if (!ctl->points || !input_abs_locked(in, ctl->abs_x, ctl->abs_y, m->wheel, ctl->buttons))
		input_rel_locked(in, small(m->dx), small(m->dy), m->wheel, ctl->buttons);
	*m = (struct motion){ 0 };
}

static void press(struct control *ctl, struct motion *m, const char *button, bool down)
{
	static const struct {
		const char *name;
		unsigned bit;
	} names[] = { { "left", INPUT_LEFT }, { "right", INPUT_RIGHT }, { "middle", INPUT_MIDDLE }, { "side", INPUT_SIDE },
		      { "extra", INPUT_EXTRA } };

	/* A wheel's notch is its going down. */
	if (!strcmp(button, "wheel-up") || !strcmp(button, "wheel-down"))
		m->wheel = !down ? 0 : button[6] == 'u' ? 1 : -1;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (!strcmp(button, names[i].name))
			ctl->buttons = down ? ctl->buttons | names[i].bit : ctl->buttons & ~names[i].bit;
	flush_motion(ctl, m);
}

static void move(struct control *ctl, struct motion *m, const json_t *data, bool abs)
{
	bool y = !strcmp(json_string_value(json_object_get(data, "axis")), "y");
	int64_t v = json_integer_value(json_object_get(data, "value"));

	if (m->any && abs != ctl->points)
		flush_motion(ctl, m);
	if (abs)
		*(y ? &ctl->abs_y : &ctl->abs_x) = (unsigned)MAX(MIN(v, INPUT_ABS_MAX), 0);
	else
		*(y ? &m->dy : &m->dx) += small(v);
	ctl->points = abs;
	m->any = true;
}

/* One InputEvent, which has passed the check; false: the command has failed. */
static bool event(struct ctl_call *c, struct motion *m, const json_t *ev)
{
	const char *type = json_string_value(json_object_get(ev, "type"));
	const json_t *data = json_object_get(ev, "data");
	bool down = json_is_true(json_object_get(data, "down"));
	const struct key_info *k;

	if (!strcmp(type, "btn")) {
		press(c->ctl, m, json_string_value(json_object_get(data, "button")), down);
		return true;
	}
	if (strcmp(type, "key")) {
		move(c->ctl, m, data, !strcmp(type, "abs"));
		return true;
	}
	k = key_of(c, json_object_get(data, "key"));
	if (k)
		input_key_locked(vm_input(c->ctl->vm), k->evdev, down);
	return k != NULL;
}

void ctl_cmd_input_send_event(struct ctl_call *c, const struct ctl_args_input_send_event *a)
{
	struct motion m = { 0 };

	if (!has_input(c))
		return;
	if (a->device || a->has_head) {
		ctl_fail(c, CTL_GENERIC_ERROR, "events go to the device that the guest listens to: 'device' and 'head' are not supported");
		return;
	}
	for (size_t i = 0; i < json_array_size(a->events); i++)
		if (!event(c, &m, json_array_get(a->events, i)))
			break;
	if (m.any)
		flush_motion(c->ctl, &m);
}

static void add_mouse(void *opaque, const char *name, bool abs, bool current)
{
	json_array_append_new(opaque, json_pack("{s:s+,s:I,s:b,s:b}", "name", name, "", "index", (json_int_t)json_array_size(opaque),
						"current", current, "absolute", abs));
}

void ctl_cmd_query_mice(struct ctl_call *c, const struct ctl_args_query_mice *a)
{
	json_t *list = json_array();

	if (list && vm_input(c->ctl->vm))
		input_pointers(vm_input(c->ctl->vm), add_mouse, list);
	ctl_return(c, list);
}

/* ---- VNC ---- */

static json_t *peer(const struct vnc_peer *p)
{
	return json_pack("{s:s+,s:s+,s:s,s:b}", "host", p->host, "", "service", p->service, "", "family", p->family, "websocket",
			 p->websocket);
}

void ctl_cmd_query_vnc(struct ctl_call *c, const struct ctl_args_query_vnc *a)
{
	struct vnc *v = vm_vnc(c->ctl->vm);
	struct vnc_state_info *i;
	json_t *clients;

	if (!v) {
		ctl_return(c, json_pack("{s:b}", "enabled", 0));
		return;
	}
	i = malloc(sizeof(*i));
	clients = json_array();
	if (i) {
		vnc_query(v, i);
		for (unsigned n = 0; n < i->n_clients; n++)
			json_array_append_new(clients, peer(&i->client[n]));
	}
	ctl_return(c, i ? json_pack("{s:b,s:s+,s:s+,s:s,s:s,s:O}", "enabled", 1, "host", i->server.host, "", "service", i->server.service,
				    "", "family", i->server.family, "auth", i->auth, "clients", clients) : NULL);
	json_decref(clients);
	free(i);
}

static void set_password(struct ctl_call *c, const char *password)
{
	struct vnc *v = vm_vnc(c->ctl->vm);

	if (!v)
		ctl_fail(c, CTL_DEVICE_NOT_ACTIVE, "No VNC server has been activated");
	else if (!*password)
		ctl_fail(c, CTL_GENERIC_ERROR, "the password is empty");
	else if (vnc_set_password(v, password))
		ctl_fail(c, CTL_GENERIC_ERROR, "out of memory");
}

void ctl_cmd_set_password(struct ctl_call *c, const struct ctl_args_set_password *a)
{
	if (a->protocol != CTL_DISPLAY_PROTOCOL_VNC)
		ctl_fail(c, CTL_DEVICE_NOT_ACTIVE, "No spice device has been activated");
	else if (a->has_connected && a->connected != CTL_SET_PASSWORD_ACTION_KEEP)
		ctl_fail(c, CTL_GENERIC_ERROR, "parameter 'connected' must be 'keep' when 'protocol' is 'vnc'");
	else
		set_password(c, a->password);
}

void ctl_cmd_change_vnc_password(struct ctl_call *c, const struct ctl_args_change_vnc_password *a) { set_password(c, a->password); }
