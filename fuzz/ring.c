/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ring walker against arbitrary ring memory.
 *
 * Input: 4 bytes of set-up, up to 64 operations, the rest is laid over guest
 * memory where the rings and an indirect table are.  Every chain handed out is
 * checked: pieces inside RAM (writable ones) or RAM and ROM (readable ones),
 * lengths that add up, no more in flight than the queue is long.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/iov.h"
#include "machine/mem.h"
#include "virtio/queue.h"

#define RAM 0x20000u		/* two ranges of half of it, at 0 and at HIGH */
#define HIGH 0x100000u
#define ROM 0x200000u
#define RING 0x1000u		/* descriptors, available at +0x800, used at +0xc00, table at +0x1000 */
#define MAX_OPS 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

struct state {
	struct mem *mem;
	struct vq vq;
	struct vq_chain c;
	unsigned notified;
	uint8_t rom[4096];
};

static struct state *the_state;	/* kept between inputs: making memory is slow */

static void require(bool ok)
{
	if (!ok)
		abort();
}

static void notify(void *opaque, struct vq *vq)
{
	((struct state *)opaque)->notified++;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct state *s = calloc(1, sizeof(*s));
	struct err e;

	require(s && !mem_new(&s->mem) && !mem_create_ram(s->mem, RAM, MEM_HUGE_NONE, &e) &&
		!mem_add_ram(s->mem, "low", 0, 0, RAM / 2, &e) &&
		!mem_add_ram(s->mem, "high", HIGH, RAM / 2, RAM / 2, &e) &&
		!mem_add_rom(s->mem, "rom", ROM, 4096, s->rom, 4096, &e));
	s->vq.mem = s->mem;
	s->vq.max_size = 256;
	s->vq.notify = notify;
	s->vq.opaque = s;
	the_state = s;
	return 0;
}

static void check_chain(struct state *s)
{
	const uint8_t *ram = mem_ram_host(s->mem), *rom = mem_ptr(s->mem, ROM, 4096, false);
	const struct vq_chain *c = &s->c;
	uint64_t len[2] = { 0 };

	require((unsigned)c->n_read + c->n_write <= VQ_MAX_IOV);
	require(s->vq.in_flight && s->vq.in_flight <= s->vq.size);
	require(c->head < s->vq.size);
	for (unsigned i = 0; i < (unsigned)c->n_read + c->n_write; i++) {
		const uint8_t *p = c->iov[i].iov_base;
		size_t n = c->iov[i].iov_len;
		bool in_ram = p >= ram && n <= RAM && (size_t)(p - ram) <= RAM - n;
		bool in_rom = p >= rom && n <= 4096 && (size_t)(p - rom) <= 4096 - n;

		require(n && (in_ram || (in_rom && i < c->n_read)));
		len[i >= c->n_read] += n;
	}
	require(len[0] == c->len_read && len[1] == c->len_write && len[0] + len[1] <= 1ull << 32);
}

static void one_op(struct state *s, uint8_t op, bool map_changed)
{
	uint16_t used = s->vq.used_idx;
	struct err e;
	int ret;

	switch (op & 7) {
	case 0: case 1: case 2:
		ret = vq_get(&s->vq, &s->c);
		if (ret == 1) {
			check_chain(s);
			if (op & 8) {
				vq_unget(&s->vq);
			} else if (op & 16) {
				iov_memset(s->c.iov + s->c.n_read, s->c.n_write, 0, op, op * 16);
				vq_put(&s->vq, &s->c, op * 16ull);
			}
		}
		require(ret == 1 || ret == 0 || s->vq.broken);
		break;
	case 3:
		vq_put_head(&s->vq, op >> 3, op);
		break;
	case 4:
		vq_flush(&s->vq);
		break;
	case 5:
		vq_kick_enable(&s->vq, op & 8);
		break;
	case 6:
		vq_empty(&s->vq);
		break;
	case 7:
		/* the rings' memory goes and comes back */
		if (!map_changed)
			break;
		mem_del(s->mem, 0);
		if (op & 8)
			vq_get(&s->vq, &s->c);
		require(!mem_add_ram(s->mem, "low", 0, 0, RAM / 2, &e));
		break;
	}
	require((uint16_t)(s->vq.used_idx - used) <= 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct state *s = the_state;
	uint8_t *ram = mem_ram_host(s->mem);
	unsigned n_ops;
	const uint8_t *ops;

	if (size < 5)
		return 0;
	n_ops = MIN(data[3] % MAX_OPS, size - 4);
	ops = data + 4;
	memset(ram, 0, 0x4000);
	vq_reset(&s->vq);
	s->vq.event_idx = data[0] & 1;
	s->vq.indirect = data[0] & 2;
	s->vq.size = data[0] & 4 ? data[1] : 1u << data[1] % 9;
	s->vq.desc = RING + (data[0] & 8 ? data[2] * 16 : 0);
	s->vq.avail = RING + 0x800 + (data[0] & 16 ? data[2] * 2 : 0);
	s->vq.used = RING + 0xc00 + (data[0] & 32 ? data[2] * 4 : 0);
	if (data[0] & 64)
		s->vq.desc = RAM / 2 - 16u * data[2];	/* around the end of a range */
	if (data[0] & 128)
		s->vq.last_avail = s->vq.avail_idx = s->vq.used_idx = s->vq.signalled_used = 0xfffc;
	memcpy(ram + RING, ops + n_ops, MIN(size - 4 - n_ops, 0x2000));
	require(vq_start(&s->vq) == 0 || s->vq.broken);
	for (unsigned i = 0; i < n_ops; i++)
		one_op(s, ops[i], s->vq.size & 1);
	vq_flush(&s->vq);
	vq_reset(&s->vq);
	return 0;
}
