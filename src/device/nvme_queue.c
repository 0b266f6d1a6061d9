/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NVMe queues (NVM Express Base 1.4, 4.1, 7.2): doorbells, fetching commands,
 * posting completions, interrupts.
 *
 * A doorbell only leaves its value in an atomic word and wakes the loop, so no
 * vCPU waits for device work; heads of completion queues do not even wake it
 * unless somebody waits for room, or the pin (no MSI-X) for them.  Several writes to one doorbell before the
 * loop looks are one.  With doorbell buffers (5.7) the tails and heads are read
 * from guest memory, and the driver writes registers only when asked to.
 *
 * Queues are contiguous (CAP.CQR) and looked up once; an entry is copied in one
 * go before any field is looked at.
 */
#include "device/nvme_int.h"

#include <string.h>
#include <unistd.h>

#include "base/bits.h"

/* Commands per turn; a guest that refills as fast as we answer waits its turn. */
#define BUDGET 1024

/* ---- doorbells ---- */

void nvme_ring(struct nvme *n, uint64_t off, uint32_t value)
{
	uint64_t at = (off - NVME_DOORBELLS) / 4, id = at / 2, one = 1;
	bool wake;

	if (off < NVME_DOORBELLS || off & 3)
		return;
	if (id >= NVME_QUEUES) {
		wake = !atomic_exchange(&n->bad_rung, true);
	} else if (at & 1) {
		n->cq_bell[id] = value;
		atomic_fetch_or(&n->cq_rung, BIT64(id));
		/* Sequentially consistent: pairs with room(), which sets want_cq and looks at the bells again. */
		wake = n->want_cq;
	} else {
		n->sq_bell[id] = value;
		wake = !atomic_fetch_or(&n->sq_rung, BIT64(id));
	}
	/* Fails only when the counter is full: then a wake-up is due anyway. */
	if (wake && write(n->kick_fd.fd, &one, sizeof(one)) < 0)
		return;
}

/* 5.2: asynchronous event, error, 0: a register of no queue, 1: a value that cannot be. */
static void bad_bell(struct nvme *n, unsigned info, unsigned sqid)
{
	static const struct nvme_cmd none = { .cid = 0xffff, .nsid = NVME_ALL_NS };

	nvme_log_error(n, sqid, &none, NVME_INVALID_FIELD);
	nvme_event(n, NVME_EV_ERROR, info, NVME_LOG_ERROR);
}

static void set_tail(struct nvme *n, unsigned id, uint32_t v)
{
	struct nvme_sq *s = &n->sq[id];

	if (!s->live)
		bad_bell(n, 0, id);
	else if (v >= s->size)
		bad_bell(n, 1, id);
	else
		s->tail = (uint16_t)v;
}

static uint32_t cq_used(const struct nvme_cq *c)
{
	return c->tail >= c->head ? (uint32_t)c->tail - c->head : c->size - c->head + c->tail;
}

static void set_head(struct nvme *n, unsigned id, uint32_t v)
{
	struct nvme_cq *c = &n->cq[id];
	uint32_t moved;

	if (!c->live) {
		bad_bell(n, 0, id);
		return;
	}
	moved = v >= c->head ? v - c->head : c->size - c->head + v;
	if (v >= c->size || moved > cq_used(c))
		bad_bell(n, 1, id);
	else
		c->head = (uint16_t)v;
}

/* ---- doorbell buffers ---- */

bool nvme_shadow_set(struct nvme *n, uint64_t shadow, uint64_t eventidx)
{
	n->shadow_gpa = shadow;
	n->eventidx_gpa = eventidx;
	n->shadow = shadow ? mem_ptr(n->m->mem, shadow, 4096, true) : NULL;
	n->eventidx = shadow ? mem_ptr(n->m->mem, eventidx, 4096, true) : NULL;
	if (n->shadow && n->eventidx) {
		/* Where the queues that exist already are. */
		for (unsigned id = 1; id < NVME_QUEUES; id++) {
			n->sq[id].asked = 0;
			if (n->sq[id].live)
				__atomic_store_n(&n->shadow[2 * id], n->sq[id].tail, __ATOMIC_RELAXED);
			if (n->cq[id].live)
				__atomic_store_n(&n->shadow[2 * id + 1], n->cq[id].head, __ATOMIC_RELAXED);
		}
		mem_written(n->m->mem, shadow, 8 * NVME_QUEUES);
		return true;
	}
	n->shadow = NULL;
	n->eventidx = NULL;
	n->shadow_gpa = n->eventidx_gpa = 0;
	return !shadow;
}

/* The admin queue has none. head: 1 for a completion queue's. */
static uint32_t shadow_ld(const struct nvme *n, unsigned id, unsigned head)
{
	return __atomic_load_n(&n->shadow[2 * id + head], __ATOMIC_ACQUIRE);
}

/* "Ring when you pass this": stored before the value is looked at again. */
static void ask_bell(struct nvme *n, unsigned id, unsigned head, uint32_t v)
{
	__atomic_store_n(&n->eventidx[2 * id + head], v, __ATOMIC_SEQ_CST);
	mem_written_host(n->m->mem, &n->eventidx[2 * id + head], 4);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* False: the driver knows already, and will ring. */
static bool ask_tail(struct nvme *n, unsigned id)
{
	struct nvme_sq *s = &n->sq[id];

	if (s->asked == s->tail + 1u)
		return false;
	s->asked = s->tail + 1u;
	ask_bell(n, id, 0, s->tail);
	return true;
}

/* Only a change is taken, so that a bad value there is told once. */
static void look_at_tail(struct nvme *n, unsigned id)
{
	uint32_t v;

	if (!n->shadow || !id || !n->sq[id].live)
		return;
	v = shadow_ld(n, id, 0);
	if (v == n->sq[id].tail || v == n->sq[id].seen)
		return;
	n->sq[id].seen = v;
	set_tail(n, id, v);
}

static void look_at_head(struct nvme *n, unsigned id)
{
	uint64_t bit = BIT64(id);
	uint32_t v;

	if (n->shadow && id) {
		v = shadow_ld(n, id, 1);
		if (v != n->cq[id].head && v != n->cq[id].seen) {
			n->cq[id].seen = v;
			set_head(n, id, v);
		}
		atomic_fetch_and(&n->cq_rung, ~bit);
		return;
	}
	if (atomic_load(&n->cq_rung) & bit && atomic_fetch_and(&n->cq_rung, ~bit) & bit)
		set_head(n, id, n->cq_bell[id]);
}

static bool has_shadow(const struct nvme *n, unsigned id)
{
	return n->shadow && id;
}

static uint64_t take_bells(struct nvme *n)
{
	uint64_t sqs = atomic_exchange(&n->sq_rung, 0), cqs = atomic_load(&n->cq_rung);

	if (!nvme_ready(n)) {
		n->cq_rung = 0;
		n->bad_rung = false;
		return 0;
	}
	if (n->bad_rung && atomic_exchange(&n->bad_rung, false))
		bad_bell(n, 0, 0);
	for (uint64_t m = sqs; m; m &= m - 1) {
		unsigned id = (unsigned)__builtin_ctzll(m);

		if (!has_shadow(n, id))
			set_tail(n, id, n->sq_bell[id]);
	}
	for (uint64_t m = cqs; m; m &= m - 1)
		look_at_head(n, (unsigned)__builtin_ctzll(m));
	return sqs;
}

void nvme_take_bells(struct nvme *n)
{
	take_bells(n);
	for (unsigned id = 1; n->shadow && id < NVME_QUEUES; id++) {
		look_at_tail(n, id);
		look_at_head(n, id);
	}
}

/* ---- queues ---- */

int nvme_sq_open(struct nvme *n, unsigned id, uint64_t base, uint32_t size, unsigned cqid)
{
	struct nvme_sq *s = &n->sq[id];
	const uint8_t *host;

	if (base & (n->page - 1))
		return NVME_PRP_OFFSET;
	host = mem_ptr(n->m->mem, base, (uint64_t)size * NVME_SQE, false);
	if (!host)
		return NVME_INVALID_FIELD;
	*s = (struct nvme_sq){ .base = base, .host = host, .size = size, .cqid = (uint16_t)cqid, .live = true };
	n->sq_bell[id] = 0;
	atomic_fetch_and(&n->sq_rung, ~BIT64(id));
	if (has_shadow(n, id))
		ask_tail(n, id);
	return NVME_OK;
}

int nvme_cq_open(struct nvme *n, unsigned id, uint64_t base, uint32_t size, bool ien, unsigned vector)
{
	struct nvme_cq *c = &n->cq[id];
	uint8_t *host;

	if (base & (n->page - 1))
		return NVME_PRP_OFFSET;
	host = mem_ptr(n->m->mem, base, (uint64_t)size * NVME_CQE, true);
	if (!host)
		return NVME_INVALID_FIELD;
	*c = (struct nvme_cq){ .base = base, .host = host, .size = size, .vector = (uint16_t)vector, .live = true, .ien = ien, .phase = true };
	n->cq_bell[id] = 0;
	atomic_fetch_and(&n->cq_rung, ~BIT64(id));
	return NVME_OK;
}

void nvme_sq_close(struct nvme *n, unsigned id)
{
	memset(&n->sq[id], 0, sizeof(n->sq[id]));
	atomic_fetch_and(&n->sq_rung, ~BIT64(id));
}

void nvme_cq_close(struct nvme *n, unsigned id)
{
	memset(&n->cq[id], 0, sizeof(n->cq[id]));
	atomic_fetch_and(&n->cq_rung, ~BIT64(id));
}

/* ---- completions ---- */

/* 4.6: the dword with the phase bit is stored last. */
static void post(struct nvme *n, struct nvme_cq *c, unsigned sqid, uint16_t cid, int status, uint32_t dw0)
{
	uint8_t *e = c->host + (size_t)c->tail * NVME_CQE;
	uint32_t last = cid | (uint32_t)c->phase << 16 | (uint32_t)status << 17;

	__atomic_store_n((uint32_t *)(void *)e, dw0, __ATOMIC_RELAXED);
	__atomic_store_n((uint32_t *)(void *)(e + 4), 0, __ATOMIC_RELAXED);
	__atomic_store_n((uint32_t *)(void *)(e + 8), n->sq[sqid].head | sqid << 16, __ATOMIC_RELAXED);
	__atomic_store_n((uint32_t *)(void *)(e + 12), last, __ATOMIC_RELEASE);
	mem_written_host(n->m->mem, e, NVME_CQE);
	if (++c->tail == c->size) {
		c->tail = 0;
		c->phase = !c->phase;
	}
	if (c->ien)
		c->irq_due = n->irq_any = true;
}

void nvme_complete(struct nvme *n, unsigned sqid, uint16_t cid, int status, uint32_t dw0)
{
	const struct nvme_sq *s = &n->sq[sqid];
	struct nvme_cq *c = &n->cq[s->cqid];

	/* Reset meanwhile, or being reset. */
	if (!s->live || !c->live)
		return;
	c->outstanding--;
	post(n, c, sqid, cid, status, dw0);
}

uint32_t nvme_cq_free(const struct nvme_cq *c)
{
	return c->size - 1 - cq_used(c);
}

/* Is there room for one more completion? If not, its doorbell is to wake us. */
static bool room(struct nvme *n, unsigned id)
{
	struct nvme_cq *c = &n->cq[id];

	if (nvme_cq_free(c) > c->outstanding)
		return true;
	look_at_head(n, id);
	if (nvme_cq_free(c) > c->outstanding)
		return true;
	/* Completions to come bring no room, heads do.  Pairs with nvme_ring. */
	n->want_cq = true;
	if (has_shadow(n, id))
		ask_bell(n, id, 1, c->head);
	look_at_head(n, id);
	return nvme_cq_free(c) > c->outstanding;
}

bool nvme_post_extra(struct nvme *n, unsigned sqid, uint16_t cid, int status, uint32_t dw0)
{
	struct nvme_cq *c = &n->cq[n->sq[sqid].cqid];

	if (!c->live || !room(n, n->sq[sqid].cqid))
		return false;
	post(n, c, sqid, cid, status, dw0);
	return true;
}

/* ---- interrupts ---- */

/* Completions wait there, and the driver wants to hear of them. */
static bool holds_pin(struct nvme *n, unsigned id)
{
	const struct nvme_cq *c = &n->cq[id];

	if (!c->live || !c->ien || c->vector >= 32 || n->intms & BIT(c->vector) || c->head == c->tail)
		return false;
	/* The pin falls when the head moves, which a doorbell buffer tells only if asked. */
	if (has_shadow(n, id)) {
		ask_bell(n, id, 1, c->head);
		look_at_head(n, id);
	}
	return c->head != c->tail;
}

void nvme_intx_update(struct nvme *n)
{
	bool level = false;

	if (!pci_msix_enabled(&n->pci))
		for (unsigned i = 0; i <= n->o.queues && !level; i++)
			level = holds_pin(n, i);
	pci_intx_set(&n->pci, level);
}

void nvme_irq_work(void *opaque)
{
	struct nvme *n = opaque;

	n->intx_mode = !pci_msix_enabled(&n->pci);
	if (n->intx_mode) {
		/* The pin falls when heads move. */
		n->want_cq = true;
		nvme_intx_update(n);
	}
	if (!n->irq_any)
		return;
	n->irq_any = false;
	for (unsigned i = 0; i <= n->o.queues; i++) {
		if (!n->cq[i].irq_due)
			continue;
		n->cq[i].irq_due = false;
		pci_msix_fire(&n->pci, n->cq[i].vector);
	}
}

void nvme_tell(struct nvme *n)
{
	if (n->irq_any)
		iothread_defer(n->o.io, &n->irq_work);
}

/* Heads moved and the pin may fall. */
static void pin_may_fall(struct nvme *n)
{
	if (n->intx_mode)
		iothread_defer(n->o.io, &n->irq_work);
}

/* ---- commands ---- */

static void fetch(const struct nvme_sq *s, struct nvme_cmd *out)
{
	const uint64_t *p = (const uint64_t *)(const void *)(s->host + (size_t)s->head * NVME_SQE);
	uint64_t w[NVME_SQE / 8];

	for (unsigned i = 0; i < ARRAY_LEN(w); i++)
		w[i] = __atomic_load_n(&p[i], __ATOMIC_RELAXED);
	memcpy(out, w, sizeof(*out));
}

void nvme_execute(struct nvme *n, unsigned id, const struct nvme_cmd *c)
{
	uint32_t dw0 = 0;
	int status;

	/* 4.2: no fused operations. */
	if (c->flags & 3)
		status = NVME_INVALID_FIELD;
	else
		status = id ? nvme_io(n, id, c) : nvme_admin(n, c, &dw0);
	if (status == NVME_PENDING)
		return;
	if (status)
		nvme_log_error(n, id, c, status);
	nvme_complete(n, id, c->cid, status, dw0);
}

/* Fetches until the queue is empty; false: it was left for later. */
static bool process(struct nvme *n, unsigned id, unsigned *budget)
{
	struct nvme_sq *s = &n->sq[id];
	struct nvme_cmd c;

	look_at_tail(n, id);
	while (s->live && nvme_ready(n)) {
		if (s->head == s->tail) {
			if (!has_shadow(n, id) || !ask_tail(n, id))
				return true;
			look_at_tail(n, id);
			if (s->head == s->tail)
				return true;
			continue;
		}
		if (!room(n, s->cqid))
			return true;
		if (!*budget)
			return false;
		--*budget;
		fetch(s, &c);
		s->head = s->head + 1u == s->size ? 0 : (uint16_t)(s->head + 1);
		n->cq[s->cqid].outstanding++;
		nvme_execute(n, id, &c);
	}
	return true;
}

void nvme_run(struct nvme *n)
{
	unsigned budget = BUDGET;
	uint64_t one = 1;
	bool all = true;

	n->want_cq = n->intx_mode;
	take_bells(n);
	if (n->paused || !nvme_ready(n))
		return;
	for (unsigned id = 0; id <= n->o.queues; id++)
		if (n->sq[id].live)
			all &= process(n, id, &budget);
	nvme_events_run(n);
	pin_may_fall(n);
	nvme_tell(n);
	if (!all && write(n->kick_fd.fd, &one, sizeof(one)) < 0)
		return;
}

void nvme_kick_ready(void *opaque, uint32_t events)
{
	struct nvme *n = opaque;
	uint64_t v;

	if (read(n->kick_fd.fd, &v, sizeof(v)) == sizeof(v))
		nvme_run(n);
}
