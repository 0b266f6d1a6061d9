/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hostile vhost peer.  One half of the inputs are what he answers in vhost-user's conversations, over a socket that is closed behind the last
 * byte; in the other half he is at work on a device's rings beside a hostile driver: comes, goes, writes where he may and signals.
 */
#include "virtio_fuzz.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vhost/talk.h"
#include "virtio/vhost_blk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- what he says ---- */

static void talk(struct fuzz_input *in)
{
	struct vhost_plan plan = { .n_regions = 2, .n_rings = 2, .region = { { .fd = 0 }, { .fd = 0 } } };
	struct vu_talk t = { .deadline = INT64_MAX / 2, .features = input_take(in, 1) & 1 ? VU_FEATURE_PROTOCOL : 0, .protocol = input_take(in, 2) };
	uint8_t what = (uint8_t)input_take(in, 1), config[VHOST_CONFIG_MAX];
	struct vhost_news n = { 0 };
	int pair[2], back[2], fds[VU_MAX_FDS] = { 0 };
	bool gave;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, back))
		abort();
	for (unsigned i = 0; in->left && i < 64; i++) {
		uint8_t how = (uint8_t)input_take(in, 1);
		struct vu_msg m = { .h = { how & 1 ? (uint32_t)input_take(in, 1) : what, how & 2 ? (uint32_t)input_take(in, 4) : VU_VERSION | VU_F_REPLY, 8 } };
		uint32_t len = how & 4 ? (uint32_t)input_take(in, 4) : 8;

		m.p.u64 = how & 8 ? input_take(in, 8) : 0;
		m.h.size = MIN(len, (uint32_t)sizeof(m.p));
		if (how & 32 && m.h.size == len) {
			vu_send(pair[1], &m, fds, how >> 6, INT64_MAX / 2);
			continue;
		}
		m.h.size = len;
		if (send(pair[1], &m, MIN(sizeof(m), sizeof(m.h) + (size_t)len), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			break;
	}
	shutdown(pair[1], SHUT_WR);
	t.fd = pair[0];
	plan.ring[0] = plan.ring[1] = (struct vhost_ring_plan){ .size = 16 };
	switch (what & 3) {
	case 0: vu_hello(&t, what >> 2, back[0], &gave, &n); break;
	case 1: vu_get_config(&t, what, config); break;
	case 2: vu_start(&t, &plan, 0); break;
	default: vu_stop(&t, 2, what & 4); break;
	}
	for (unsigned i = 0; i < 2; i++) {
		close(pair[i]);
		close(back[i]);
	}
}

/* ---- what he does ---- */

struct peer {
	struct vhost v;			/* first */
	struct vhost_news news;
	struct vhost_plan plan;
	uint8_t *mem;			/* the rings' */
	size_t bytes;
	bool refuses_stop;
};

static void unmap(struct peer *p)
{
	if (p->mem)
		munmap(p->mem, p->bytes);
	p->mem = NULL;
}

static void look(struct vhost *v, struct vhost_news *out) { *out = ((struct peer *)v)->news; }

static void start(struct vhost *v, uint64_t life, const struct vhost_plan *plan)
{
	struct peer *p = (struct peer *)v;

	if (p->news.state != VHOST_THERE || p->news.life != life)
		return;
	unmap(p);
	p->plan = *plan;
	p->bytes = plan->region[1].size;
	p->mem = mmap(NULL, p->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, plan->region[1].fd, 0);
	if (p->mem == MAP_FAILED)
		abort();
	p->news.state = VHOST_STARTING;
}

static int stop(struct vhost *v, bool reset)
{
	struct peer *p = (struct peer *)v;

	if (p->refuses_stop)
		p->news.state = VHOST_AWAY;
	if (p->news.state == VHOST_AWAY)
		return -ENOTCONN;
	p->news.state = VHOST_THERE;
	return 0;
}

static int memory(struct vhost *v) { return vhost_shared_new(v->ring_bytes); }
static void drop(struct vhost *v, const char *why) { ((struct peer *)v)->news.state = VHOST_AWAY; }
static void release(struct vhost *v) { unmap((struct peer *)v); }

static const struct vhost_ops ops = { .look = look, .start = start, .stop = stop, .memory = memory, .drop = drop, .free = release };

/* Another state, perhaps another peer. */
static void news(struct fuzz *f, struct peer *p)
{
	uint8_t how = (uint8_t)fuzz_take(f, 1);

	if (how & 1) {
		p->news.life++;
		p->news.state = VHOST_THERE;
		if (how & 2)
			p->news.features = fuzz_take(f, 8);
		if (how & 4)
			p->news.queues = (unsigned)fuzz_take(f, 1);
	} else if (p->news.state == VHOST_STARTING) {
		p->news.state = VHOST_RUNNING;
	} else if (how & 2) {
		p->news.state = VHOST_AWAY;
	}
	if (how & 8) {
		p->news.config_serial++;
		p->news.config[fuzz_take(f, 1) % VHOST_BLK_CONFIG_LEN] = (uint8_t)fuzz_take(f, 1);
	}
	p->refuses_stop = how & 16;
	machine_lock(f->m);
	p->v.changed(p->v.opaque);
	machine_unlock(f->m);
}

/* Returns the next chain as he should, or so many as he likes. */
static void use(struct fuzz *f, struct peer *p)
{
	const struct vhost_ring_plan *r = &p->plan.ring[fuzz_take(f, 1) % 2];
	uint8_t how = (uint8_t)fuzz_take(f, 1), *used, *avail;
	uint64_t one = 1;
	uint16_t idx;

	if (!p->mem)
		return;
	used = p->mem + (r->used - p->plan.region[1].addr);
	avail = p->mem + (r->avail - p->plan.region[1].addr);
	idx = ld_le16(used + 2);
	st_le32(used + 4 + 8 * (idx % r->size), how & 1 ? (uint32_t)fuzz_take(f, 1) : ld_le16(avail + 4 + 2 * (idx % r->size)));
	st_le32(used + 8 + 8 * (idx % r->size), how & 2 ? (uint32_t)fuzz_take(f, 4) : 512);
	st_le16(used + 2, how & 4 ? (uint16_t)fuzz_take(f, 2) : (uint16_t)(idx + 1));
	if (write(r->call, &one, 8) < 0)
		abort();
	loop_turn(f->m->loop, 0);
}

static void action(struct fuzz *f, uint8_t what)
{
	struct peer *p = f->opaque;

	switch (what & 3) {
	case 0:
		if (p->mem)
			input_memory(&f->in, p->mem, (unsigned)MIN(p->bytes, 0x4000u), fuzz_take(f, 2));
		break;
	case 1: use(f, p); break;
	default: news(f, p); break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct peer p = { .v.ops = &ops };
	struct vhost_blk_opts o = { .queues = 2, .queue_size = FUZZ_QSIZE };
	struct fuzz_input in = { data, size };
	struct virtio_dev *d;
	struct fuzz f;
	struct err e;

	if (input_take(&in, 1) & 1) {
		talk(&in);
		return 0;
	}
	fuzz_machine(&f, in.p, in.left);
	p.news = (struct vhost_news){ .state = VHOST_THERE, .life = 1, .queues = 2, .config_len = VHOST_BLK_CONFIG_LEN,
				      .features = VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC | 0x1200 };
	machine_lock(f.m);
	if (vhost_blk_new(f.m, "disk0", &p.v, &o, &d, &e))
		abort();
	machine_unlock(f.m);
	container_of(d, struct vhost_dev, d)->drain_ns = -1;
	f.action = action;
	f.opaque = &p;
	fuzz_play(&f, d);
	return 0;
}
