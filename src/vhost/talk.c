// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Conversations of the vhost-user protocol.
 *
 * With REPLY_ACK each request is confirmed; without it a question whose answer nobody needs is asked at the end of a start, since
 * a peer reads his messages in order: what came before it has been done.
 */
#include "vhost/talk.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"

#define F_VERSION_1 (1ull << 32)
/* Where regions lie in the address space by which rings are named ("user addresses"): nothing of ours, so that a peer learns nothing of where
 * things are in this process. */
#define USER_BASE (1ull << 44)
#define KNOWN_PROTOCOL (VU_P_MQ | VU_P_REPLY_ACK | VU_P_BACKEND_REQ | VU_P_CONFIG | VU_P_RESET_DEVICE)

static int ask(struct vu_talk *t, struct vu_msg *m, uint32_t request, uint32_t size)
{
	int ret;

	m->h = (struct vu_header){ .request = request, .flags = VU_VERSION, .size = size };
	ret = vu_send(t->fd, m, NULL, 0, t->deadline);
	if (!ret)
		ret = vu_receive(t->fd, m, t->deadline);
	if (!ret && (m->h.request != request || !(m->h.flags & VU_F_REPLY)))
		ret = -EPROTO;
	return ret;
}

static int ask_u64(struct vu_talk *t, uint32_t request, uint64_t *out)
{
	struct vu_msg m = { 0 };
	int ret = ask(t, &m, request, 0);

	if (!ret && m.h.size != sizeof(m.p.u64))
		ret = -EPROTO;
	*out = ret ? 0 : m.p.u64;
	return ret;
}

/* What is said and not asked.  EIO: he refuses. */
static int tell(struct vu_talk *t, struct vu_msg *m, uint32_t request, uint32_t size, const int *fds, unsigned n_fds)
{
	bool ack = t->protocol & VU_P_REPLY_ACK;
	int ret;

	m->h = (struct vu_header){ .request = request, .flags = VU_VERSION | (ack ? VU_F_NEED_REPLY : 0), .size = size };
	ret = vu_send(t->fd, m, fds, n_fds, t->deadline);
	if (ret || !ack)
		return ret;
	ret = vu_receive(t->fd, m, t->deadline);
	if (!ret && (m->h.request != request || !(m->h.flags & VU_F_REPLY) || m->h.size != sizeof(m->p.u64)))
		ret = -EPROTO;
	return ret ? ret : m->p.u64 ? -EIO : 0;
}

static int tell_u64(struct vu_talk *t, uint32_t request, uint64_t v, int fd)
{
	struct vu_msg m = { .p.u64 = v };

	return tell(t, &m, request, sizeof(m.p.u64), &fd, fd >= 0);
}

static int tell_state(struct vu_talk *t, uint32_t request, uint32_t ring, uint32_t num)
{
	struct vu_msg m = { .p.state = { ring, num } };

	return tell(t, &m, request, sizeof(m.p.state), NULL, 0);
}

/* ---- hello ---- */

int vu_get_config(struct vu_talk *t, uint32_t len, uint8_t *out)
{
	struct vu_msg m = { .p.config = { .size = len } };
	int ret;

	t->doing = "reading its configuration";
	ret = ask(t, &m, VU_GET_CONFIG, VU_CONFIG_HEADER + len);
	if (ret)
		return ret;
	if (!m.h.size)
		return -ENOTSUP;
	if (m.h.size != VU_CONFIG_HEADER + len || m.p.config.size != len)
		return -EPROTO;
	memcpy(out, m.p.config.data, len);
	return 0;
}

static int hello_protocol(struct vu_talk *t, bool config, int backend, bool *gave)
{
	uint64_t theirs;
	struct vu_msg m = { 0 };
	int ret = ask_u64(t, VU_GET_PROTOCOL_FEATURES, &theirs);

	if (ret)
		return ret;
	theirs &= KNOWN_PROTOCOL & ~(config ? 0 : VU_P_CONFIG);
	/* His requests are of use with a configuration that changes alone. */
	if (!(theirs & VU_P_CONFIG))
		theirs &= ~VU_P_BACKEND_REQ;
	ret = tell_u64(t, VU_SET_PROTOCOL_FEATURES, theirs, -1);
	t->protocol = theirs;
	if (!ret && theirs & VU_P_BACKEND_REQ) {
		ret = tell(t, &m, VU_SET_BACKEND_REQ_FD, 0, &backend, 1);
		*gave = !ret;
	}
	return ret;
}

int vu_hello(struct vu_talk *t, uint32_t config_len, int backend, bool *gave, struct vhost_news *n)
{
	struct vu_msg m = { 0 };
	uint64_t queues = 0;
	int ret;

	t->protocol = 0;
	*gave = false;
	t->doing = "asking what it can do";
	ret = tell(t, &m, VU_SET_OWNER, 0, NULL, 0);
	if (!ret)
		ret = ask_u64(t, VU_GET_FEATURES, &t->features);
	if (!ret && t->features & VU_FEATURE_PROTOCOL)
		ret = hello_protocol(t, config_len > 0, backend, gave);
	if (!ret && !(t->features & F_VERSION_1))
		ret = -ENOTSUP;
	if (!ret && t->protocol & VU_P_MQ)
		ret = ask_u64(t, VU_GET_QUEUE_NUM, &queues);
	if (!ret && config_len && !(t->protocol & VU_P_CONFIG))
		ret = -ENOTSUP;
	if (!ret && config_len)
		ret = vu_get_config(t, config_len, n->config);
	n->features = t->features & ~VU_FEATURE_PROTOCOL;
	n->queues = (unsigned)MIN(queues, (uint64_t)VHOST_MAX_RINGS);
	n->config_len = config_len;
	return ret;
}

/* ---- start ---- */

static int tell_memory(struct vu_talk *t, const struct vhost_plan *plan)
{
	struct vu_msg m = { .p.memory = { .n_regions = plan->n_regions } };
	int fds[VHOST_MAX_REGIONS];

	for (unsigned i = 0; i < plan->n_regions; i++) {
		const struct vhost_region *r = &plan->region[i];

		m.p.memory.region[i] = (struct vu_region){ .guest_addr = r->addr, .size = r->size, .user_addr = USER_BASE + r->addr };
		fds[i] = r->fd;
	}
	return tell(t, &m, VU_SET_MEM_TABLE, (uint32_t)(offsetof(struct vu_memory, region) + plan->n_regions * sizeof(struct vu_region)), fds,
		    plan->n_regions);
}

static int start_ring(struct vu_talk *t, const struct vhost_ring_plan *r, uint32_t i, int err)
{
	struct vu_msg m = { .p.addr = { .index = i, .desc = USER_BASE + r->desc, .avail = USER_BASE + r->avail, .used = USER_BASE + r->used } };
	int ret = tell_state(t, VU_SET_VRING_NUM, i, r->size);

	if (!ret)
		ret = tell_state(t, VU_SET_VRING_BASE, i, r->base);
	if (!ret)
		ret = tell(t, &m, VU_SET_VRING_ADDR, sizeof(m.p.addr), NULL, 0);
	if (!ret)
		ret = tell_u64(t, VU_SET_VRING_ERR, i, err);
	if (!ret)
		ret = tell_u64(t, VU_SET_VRING_CALL, i, r->call);
	/* The last one: it starts the ring. */
	return ret ? ret : tell_u64(t, VU_SET_VRING_KICK, i, r->kick);
}

int vu_start(struct vu_talk *t, const struct vhost_plan *plan, int err)
{
	uint64_t same;
	int ret;

	t->doing = "setting up its rings";
	ret = tell_u64(t, VU_SET_FEATURES, plan->features | (t->features & VU_FEATURE_PROTOCOL), -1);
	if (!ret)
		ret = tell_memory(t, plan);
	for (uint32_t i = 0; i < plan->n_rings && !ret; i++)
		ret = start_ring(t, &plan->ring[i], i, err);
	for (uint32_t i = 0; i < plan->n_rings && !ret && t->features & VU_FEATURE_PROTOCOL; i++)
		ret = tell_state(t, VU_SET_VRING_ENABLE, i, 1);
	return ret || t->protocol & VU_P_REPLY_ACK ? ret : ask_u64(t, VU_GET_FEATURES, &same);
}

/* ---- stop ---- */

int vu_stop(struct vu_talk *t, unsigned n_rings, bool reset)
{
	int ret = 0;

	t->doing = "stopping its rings";
	for (uint32_t i = 0; i < n_rings && !ret; i++) {
		struct vu_msg m = { .p.state = { i, 0 } };

		if (t->features & VU_FEATURE_PROTOCOL)
			ret = tell_state(t, VU_SET_VRING_ENABLE, i, 0);
		if (!ret)
			ret = ask(t, &m, VU_GET_VRING_BASE, sizeof(m.p.state));
		if (!ret && (m.h.size != sizeof(m.p.state) || m.p.state.index != i))
			ret = -EPROTO;
	}
	if (!ret && reset && t->protocol & VU_P_RESET_DEVICE) {
		struct vu_msg m = { 0 };

		ret = tell(t, &m, VU_RESET_DEVICE, 0, NULL, 0);
	}
	return ret;
}
