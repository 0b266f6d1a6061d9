// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The thread that talks to the TPM, and the commands it is given.
 *
 * There is one command under way and one that waits; a newer one takes the waiting
 * one's place.  Each has a number, and a response is handed over only if its number is
 * that of the last command.  A conversation that breaks is over: from then on every
 * command is answered with TPM_RC_FAILURE.
 */
#include "tpm/tpm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/confine.h"
#include "base/log.h"
#include "tpm/impl.h"

#define SECOND 1000000000ll
#define COMMAND_NS (300 * SECOND)	/* the longest a command may take: making a key */
#define CANCEL_NS (20 * SECOND)		/* and one that was cancelled */
#define SHUTDOWN_NS (SECOND / 2)

struct tpm {
	struct loop *l;
	struct loop_bh bh;		/* a response is there */
	struct tpm_front f;
	char *name;
	pid_t child;
	bool ends;			/* told to, by tpm_free, though it is no child */
	pthread_t thread;
	bool has_thread;
	struct tpm_wire w;		/* the thread's, once it runs */
	int wake;			/* eventfd: look at `cancelled` */

	pthread_mutex_t lock;		/* protects what follows; inside the loop's lock */
	pthread_cond_t work, rest;
	bool quit, dead, busy;
	bool init, reset_established;
	uint8_t established_locality;
	bool established;
	uint64_t last;			/* number of the last command; what is dropped has an older one */
	uint64_t cancelled;		/* commands up to this number are to end */
	uint8_t next[TPM_BUFFER];	/* waits */
	size_t next_len;		/* 0: nothing */
	uint8_t next_locality;
	uint64_t next_number;
	uint8_t response[TPM_BUFFER];
	size_t response_len;		/* 0: none */
	uint64_t response_number;
	struct tpm_state *get;		/* somebody waits for it */
	const struct tpm_state *set;
	int state_ret;
};

/* ---- the thread ---- */

#define RC_FAILURE 0x101
#define RC_COMMAND_SIZE 0x142
#define RC_CANCELED 0x909

/* A response of ours. */
static void refuse(uint8_t *out, unsigned code)
{
	memcpy(out, (const uint8_t[TPM_HEADER]){ 0x80, 0x01, 0, 0, 0, TPM_HEADER, 0, 0, (uint8_t)(code >> 8), (uint8_t)code }, TPM_HEADER);
}

/* t->lock held. */
static void broken(struct tpm *t, int ret)
{
	if (!ret || t->dead || t->quit)
		return;
	t->dead = true;
	log_warn("the TPM %s is lost: %s; the guest is told that it fails", t->name,
		 ret == -EPROTO ? "it answers nonsense" : ret == -EIO ? "it refused a command" : strerror(-ret));
}

/* Receives while listening to who cancels. */
static int await(struct tpm *t, uint64_t number, uint8_t *out)
{
	int64_t deadline = loop_now_ns() + COMMAND_NS;
	bool cancelled = false;
	size_t got = 0;
	int ret;

	while ((ret = tpm_wire_receive(&t->w, out, &got, t->wake, deadline)) == -EINTR) {
		uint64_t n;
		bool cancel;

		if (read(t->wake, &n, sizeof(n)) < 0 && errno != EAGAIN)
			return -errno;
		pthread_mutex_lock(&t->lock);
		cancel = number <= t->cancelled;
		pthread_mutex_unlock(&t->lock);
		if (!cancel || cancelled)
			continue;
		cancelled = true;
		deadline = loop_now_ns() + CANCEL_NS;
		ret = tpm_wire_cancel(&t->w);
		if (ret)
			return ret;
	}
	return ret;
}

/* What the command that waits is answered with instead of being sent; 0: it is sent. t->lock held. */
static unsigned why_not(const struct tpm *t)
{
	if (t->dead)
		return RC_FAILURE;
	/* The TPM would wait for the rest, or take it for the next command. */
	if (t->next_len < TPM_HEADER || __builtin_bswap32(ld_le32(t->next + 2)) != t->next_len)
		return RC_COMMAND_SIZE;
	return t->next_number <= t->cancelled ? RC_CANCELED : 0;
}

/* t->lock held, and let go of meanwhile. */
static void do_command(struct tpm *t)
{
	uint8_t cmd[TPM_BUFFER], out[TPM_BUFFER], locality = t->next_locality;
	uint64_t number = t->next_number;
	size_t len = t->next_len;
	bool established = t->established;
	unsigned code = why_not(t);
	int ret = 0;

	memcpy(cmd, t->next, len);
	t->next_len = 0;
	if (!code) {
		pthread_mutex_unlock(&t->lock);
		ret = tpm_wire_locality(&t->w, locality);
		if (!ret)
			ret = tpm_wire_send(&t->w, cmd, len);
		if (!ret)
			ret = await(t, number, out);
		if (!ret)
			ret = tpm_wire_established(&t->w, &established);
		pthread_mutex_lock(&t->lock);
		broken(t, ret);
		code = ret ? RC_FAILURE : 0;
	}
	t->established = established;
	if (number != t->last)
		return;
	if (code)
		refuse(out, code);
	t->response_len = MIN((size_t)__builtin_bswap32(ld_le32(out + 2)), TPM_BUFFER);
	memcpy(t->response, out, t->response_len);
	t->response_number = number;
	loop_bh_post(&t->bh);
}

static void do_init(struct tpm *t)
{
	bool established = false;
	int ret;

	t->init = false;
	if (t->dead)
		return;
	pthread_mutex_unlock(&t->lock);
	ret = tpm_wire_init(&t->w, TPM_INIT_DELETE_VOLATILE);
	if (!ret)
		ret = tpm_wire_established(&t->w, &established);
	pthread_mutex_lock(&t->lock);
	broken(t, ret);
	t->established = established;
}

static void do_reset_established(struct tpm *t)
{
	uint8_t locality = t->established_locality;
	bool established = t->established;
	int ret;

	t->reset_established = false;
	if (t->dead)
		return;
	pthread_mutex_unlock(&t->lock);
	ret = tpm_wire_reset_established(&t->w, locality);
	if (!ret)
		ret = tpm_wire_established(&t->w, &established);
	pthread_mutex_lock(&t->lock);
	broken(t, ret);
	t->established = established;
}

static int get_all(struct tpm *t, struct tpm_state *s)
{
	int ret = 0;

	for (unsigned i = 0; i < TPM_BLOBS && !ret; i++)
		ret = tpm_wire_get_blob(&t->w, i, &s->blob[i], &s->len[i], &s->flags[i]);
	return ret;
}

static int set_all(struct tpm *t, const struct tpm_state *s)
{
	int ret = tpm_wire_stop(&t->w);

	for (unsigned i = 0; i < TPM_BLOBS && !ret; i++)
		if (s->len[i])
			ret = tpm_wire_set_blob(&t->w, i, s->blob[i], s->len[i], s->flags[i]);
	return ret ? ret : tpm_wire_init(&t->w, TPM_INIT_KEEP);
}

/* The caller may give up waiting, so the thread works on copies. */
static void do_get(struct tpm *t)
{
	struct tpm_state s = { 0 };
	int ret = -EIO;

	if (!t->dead) {
		pthread_mutex_unlock(&t->lock);
		ret = get_all(t, &s);
		pthread_mutex_lock(&t->lock);
	}
	if (t->get) {
		*t->get = s;
		t->get = NULL;
		t->state_ret = ret;
	} else {
		tpm_state_free(&s);
	}
	broken(t, ret == -ENOTSUP ? 0 : ret);
}

static int copy_state(struct tpm_state *to, const struct tpm_state *from)
{
	*to = *from;
	memset(to->blob, 0, sizeof(to->blob));
	for (unsigned i = 0; i < TPM_BLOBS; i++) {
		to->blob[i] = malloc(from->len[i] + 1);
		if (!to->blob[i])
			return -ENOMEM;
		if (from->len[i])
			memcpy(to->blob[i], from->blob[i], from->len[i]);
	}
	return 0;
}

static void do_set(struct tpm *t)
{
	struct tpm_state s;
	int ret = copy_state(&s, t->set);
	bool established = false;

	if (!ret && t->dead)
		ret = -EIO;
	if (!ret) {
		pthread_mutex_unlock(&t->lock);
		ret = set_all(t, &s);
		if (!ret)
			ret = tpm_wire_established(&t->w, &established);
		pthread_mutex_lock(&t->lock);
		t->established = established;
	}
	tpm_state_free(&s);
	t->set = NULL;
	t->state_ret = ret;
	/* Refused state leaves it stopped; the next reset starts it. */
	broken(t, ret == -ENOTSUP || ret == -EIO ? 0 : ret);
}

static bool has_work(const struct tpm *t)
{
	return t->init || t->reset_established || t->next_len || t->get || t->set;
}

static void *talk(void *opaque)
{
	struct tpm *t = opaque;

	confine_enter(CONFINE_IO);
	pthread_mutex_lock(&t->lock);
	while (!t->quit) {
		if (!has_work(t)) {
			t->busy = false;
			pthread_cond_broadcast(&t->rest);
			pthread_cond_wait(&t->work, &t->lock);
			continue;
		}
		t->busy = true;
		if (t->init)
			do_init(t);
		else if (t->set)
			do_set(t);
		else if (t->reset_established)
			do_reset_established(t);
		else if (t->get)
			do_get(t);
		else
			do_command(t);
		pthread_cond_broadcast(&t->rest);
	}
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

/* ---- for the device ---- */

static void deliver(void *opaque)
{
	struct tpm *t = opaque;
	uint8_t response[TPM_BUFFER];
	size_t len = 0;

	pthread_mutex_lock(&t->lock);
	if (t->response_len && t->response_number == t->last) {
		len = t->response_len;
		memcpy(response, t->response, len);
	}
	t->response_len = 0;
	pthread_mutex_unlock(&t->lock);
	if (len && t->f.done)
		t->f.done(t->f.opaque, response, len);
}

void tpm_attach(struct tpm *t, const struct tpm_front *f)
{
	t->f = *f;
}

/* What was submitted so far. t->lock held. */
static void cancel_locked(struct tpm *t)
{
	uint64_t one = 1;

	t->cancelled = t->last;
	if (write(t->wake, &one, sizeof(one)) < 0)
		return;			/* full: it will be woken anyway */
}

/* Nobody wants what is under way. t->lock held. */
static void drop_locked(struct tpm *t)
{
	if (t->busy)
		cancel_locked(t);
	t->last++;
	t->next_len = t->response_len = 0;
}

void tpm_submit(struct tpm *t, uint8_t locality, const uint8_t *cmd, size_t len)
{
	pthread_mutex_lock(&t->lock);
	drop_locked(t);
	t->next_len = MIN(len, TPM_BUFFER);
	memcpy(t->next, cmd, t->next_len);
	t->next_locality = locality;
	t->next_number = t->last;
	t->busy = true;
	pthread_cond_signal(&t->work);
	pthread_mutex_unlock(&t->lock);
}

void tpm_cancel(struct tpm *t)
{
	pthread_mutex_lock(&t->lock);
	cancel_locked(t);
	pthread_mutex_unlock(&t->lock);
}

void tpm_drop(struct tpm *t)
{
	pthread_mutex_lock(&t->lock);
	drop_locked(t);
	pthread_mutex_unlock(&t->lock);
}

void tpm_reset(struct tpm *t)
{
	pthread_mutex_lock(&t->lock);
	drop_locked(t);
	t->init = t->busy = true;
	t->reset_established = false;
	pthread_cond_signal(&t->work);
	pthread_mutex_unlock(&t->lock);
}

bool tpm_established(struct tpm *t)
{
	bool e;

	pthread_mutex_lock(&t->lock);
	e = t->established;
	pthread_mutex_unlock(&t->lock);
	return e;
}

void tpm_reset_established(struct tpm *t, uint8_t locality)
{
	pthread_mutex_lock(&t->lock);
	t->reset_established = t->busy = true;
	t->established_locality = locality;
	pthread_cond_signal(&t->work);
	pthread_mutex_unlock(&t->lock);
}

/* ---- saved state ---- */

void tpm_state_free(struct tpm_state *s)
{
	for (unsigned i = 0; i < TPM_BLOBS; i++)
		free(s->blob[i]);
	*s = (struct tpm_state){ 0 };
}

/* Waits while cond(t); t->lock held. */
static int wait_while(struct tpm *t, bool (*cond)(const struct tpm *), unsigned timeout_ms)
{
	int64_t at = loop_now_ns() + timeout_ms * 1000000ll;
	struct timespec ts = { .tv_sec = at / SECOND, .tv_nsec = at % SECOND };
	int ret = 0;

	while (cond(t) && !ret)
		ret = pthread_cond_timedwait(&t->rest, &t->lock, &ts);
	return cond(t) ? -ETIMEDOUT : 0;
}

static bool is_busy(const struct tpm *t) { return t->busy; }
static bool is_getting(const struct tpm *t) { return t->get != NULL; }
static bool is_setting(const struct tpm *t) { return t->set != NULL; }

int tpm_wait_idle(struct tpm *t, unsigned timeout_ms)
{
	int ret;

	pthread_mutex_lock(&t->lock);
	ret = wait_while(t, is_busy, timeout_ms);
	pthread_mutex_unlock(&t->lock);
	if (!ret)
		deliver(t);
	return ret;
}

static int said(struct tpm *t, int ret, const char *what, struct err *e)
{
	return ret ? err_set(e, ret, "the state of the TPM %s cannot be %s: %s", t->name, what,
			     ret == -EIO ? "it refuses" : ret == -EPROTO ? "it answers nonsense" : strerror(-ret)) : 0;
}

int tpm_get_state(struct tpm *t, struct tpm_state *out, unsigned timeout_ms, struct err *e)
{
	int ret;

	*out = (struct tpm_state){ 0 };
	pthread_mutex_lock(&t->lock);
	/* Not while an earlier one that took too long is under way. */
	ret = wait_while(t, is_busy, timeout_ms);
	if (!ret) {
		t->get = out;
		t->busy = true;
		pthread_cond_signal(&t->work);
		ret = wait_while(t, is_getting, timeout_ms);
		t->get = NULL;
		ret = ret ? ret : t->state_ret;
	}
	pthread_mutex_unlock(&t->lock);
	if (ret)
		tpm_state_free(out);
	return said(t, ret, "saved", e);
}

int tpm_set_state(struct tpm *t, const struct tpm_state *s, unsigned timeout_ms, struct err *e)
{
	int ret;

	pthread_mutex_lock(&t->lock);
	drop_locked(t);
	t->init = t->reset_established = false;		/* it begins with what it is given */
	ret = wait_while(t, is_busy, timeout_ms);
	if (!ret) {
		t->set = s;
		t->busy = true;
		pthread_cond_signal(&t->work);
		/* do_set copies s with the lock held before anything else. */
		ret = wait_while(t, is_setting, timeout_ms);
		t->set = NULL;
		ret = ret ? ret : t->state_ret;
	}
	pthread_mutex_unlock(&t->lock);
	return said(t, ret, "loaded", e);
}

/* ---- life ---- */

static void close_all(struct tpm *t)
{
	int fds[] = { t->w.ctrl, t->w.data, t->w.quit, t->wake };

	for (unsigned i = 0; i < ARRAY_LEN(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

static int open_all(struct tpm *t, struct err *e)
{
	int ret;

	t->w.quit = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	t->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (t->w.quit < 0 || t->wake < 0)
		return err_set(e, -errno, "eventfd: %s", strerror(errno));
	ret = tpm_wire_open(&t->w);
	if (!ret)
		ret = tpm_wire_init(&t->w, TPM_INIT_DELETE_VOLATILE);
	if (!ret)
		ret = tpm_wire_established(&t->w, &t->established);
	if (ret == -EIO)
		return err_set(e, ret, "it refused to start; is its state in use, or damaged? (%s)", t->name);
	if (ret == -ENOTSUP || ret == -EPROTO)
		return err_set(e, ret, "%s: what answers there is no swtpm, or too old a one", t->name);
	return ret ? err_set(e, ret, "%s: the TPM does not answer: %s", t->name, strerror(-ret)) : 0;
}

static void init_locks(struct tpm *t)
{
	pthread_condattr_t a;

	pthread_mutex_init(&t->lock, NULL);
	pthread_condattr_init(&a);
	pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
	pthread_cond_init(&t->work, &a);
	pthread_cond_init(&t->rest, &a);
	pthread_condattr_destroy(&a);
}

int tpm_new_child(struct loop *l, int ctrl, const char *name, pid_t child, struct tpm **out, struct err *e)
{
	struct tpm *t = calloc(1, sizeof(*t));
	int ret = -ENOMEM;

	if (!t) {
		close(ctrl);
		tpm_child_end(child);
		return err_set(e, ret, "out of memory");
	}
	t->l = l;
	t->child = child;
	t->w = (struct tpm_wire){ .ctrl = ctrl, .data = -1, .quit = -1 };
	t->wake = -1;
	init_locks(t);
	loop_bh_init(l, &t->bh, deliver, t);
	t->name = strdup(name);
	ret = t->name ? open_all(t, e) : err_set(e, ret, "out of memory");
	if (!ret) {
		ret = -pthread_create(&t->thread, NULL, talk, t);
		t->has_thread = !ret;
		if (ret)
			err_set(e, ret, "the TPM's thread cannot be started: %s", strerror(-ret));
	}
	if (ret)
		tpm_free(t);
	else
		*out = t;
	return ret;
}

void tpm_ends_with_us(struct tpm *t)
{
	t->ends = true;
}

void tpm_free(struct tpm *t)
{
	uint64_t one = 1;
	bool ended;

	if (!t)
		return;
	pthread_mutex_lock(&t->lock);
	t->quit = true;
	pthread_cond_signal(&t->work);
	pthread_mutex_unlock(&t->lock);
	if (t->has_thread) {
		if (write(t->w.quit, &one, sizeof(one)) < 0)
			log_warn("the TPM's thread cannot be woken: %s", strerror(errno));
		pthread_join(t->thread, NULL);
		close(t->w.quit);
		t->w.quit = -1;
	}
	/* One that is not ours is left as it is, if nobody has said otherwise. */
	ended = (t->child || t->ends) && !t->dead && t->w.data >= 0 && !tpm_wire_shutdown(&t->w, loop_now_ns() + SHUTDOWN_NS);
	if (ended)
		tpm_child_end(t->child);	/* before the sockets close, which it would report */
	loop_bh_cancel(&t->bh);
	close_all(t);
	if (!ended)
		tpm_child_end(t->child);
	pthread_cond_destroy(&t->work);
	pthread_cond_destroy(&t->rest);
	pthread_mutex_destroy(&t->lock);
	free(t->name);
	free(t);
}
