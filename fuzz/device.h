/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The generic device fuzzer: what a target tells of itself.
 *
 * A target is a setup function and the addresses at which its device listens;
 * fuzz/targets.c has them all in one table.  Input bytes become accesses to
 * those addresses and, now and then, to anything else (fuzz/device.c).
 */
#ifndef LODGE_FUZZ_DEVICE_H
#define LODGE_FUZZ_DEVICE_H

#include "puppet_client.h"

#define FUZZ_MAX_INPUTS 32
#define FUZZ_MAX_RANGES 32

struct fuzz_range {
	bool port;
	uint64_t base, size;
};

struct fuzz_ctx {
	struct puppet *p;
	struct irq in[FUZZ_MAX_INPUTS];		/* wires into the device the fuzzer may move */
	unsigned n_in;
	struct fuzz_range ranges[FUZZ_MAX_RANGES];	/* the target's, and those setup and boot add */
	unsigned n_ranges;
	void *opaque;				/* the target's */
};

struct fuzz_target {
	const char *name;
	/* Builds the device on c->p->m.  0, or the fuzzer stops. */
	int (*setup)(struct fuzz_ctx *c);
	/* Power-on, and the reset action.  NULL: all devices are reset. */
	void (*boot)(struct fuzz_ctx *c);
	/* Something only this device has (typed bytes ...), picked by `what`. May be NULL. */
	void (*extra)(struct fuzz_ctx *c, uint8_t what, const uint8_t *buf, size_t len);
	/* After the machine is gone.  May be NULL. */
	void (*teardown)(struct fuzz_ctx *c);
	/* After the devices, before the machine: back ends on its loop.  May be NULL. */
	void (*unplug)(struct fuzz_ctx *c);
	uint64_t ram;				/* 0: 64 KiB; UINT64_MAX: setup makes it */
	struct fuzz_range ranges[FUZZ_MAX_RANGES - 8];	/* ends with size 0 */
};

/* Also aim at this range; ignored when there are too many or it is known. */
void fuzz_aim(struct fuzz_ctx *c, bool port, uint64_t base, uint64_t size);

/* The target of that name, or NULL. */
const struct fuzz_target *fuzz_target(const char *name);

#endif
