/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random scripts of requests on an image, against a flat model of its contents.
 * Everything follows from the seed.
 */
#ifndef LODGE_TESTS_BLOCK_SCRIPT_H
#define LODGE_TESTS_BLOCK_SCRIPT_H

#include "block/blk.h"
#include "block/qcow2/qcow2.h"

struct rng {
	uint64_t s;
};
uint64_t rng_next(struct rng *r);
uint64_t rng_below(struct rng *r, uint64_t n);		/* [0, n) */
static inline bool rng_one_in(struct rng *r, unsigned n) { return rng_below(r, n) == 0; }
void rng_fill(struct rng *r, uint8_t *p, size_t len);	/* compressible here and there, never all zero */

/* Functions, since their arguments draw numbers. */
static inline uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t most(uint64_t a, uint64_t b) { return a > b ? a : b; }

#define MAX_SNAPS 8
struct model {
	uint8_t *data;
	uint64_t size;
	struct {
		char name[16];
		uint8_t *data;
		uint64_t size;
		uint64_t state_seed, state_size;	/* of the VM's state in it; size 0: none */
	} snap[MAX_SNAPS];
	unsigned n_snaps, named;
};
void model_init(struct model *m, uint64_t size);
void model_fini(struct model *m);

/* From here on script_options makes encrypted images. */
void script_encrypt(void);
/* With the key that opens them. */
struct blk_image_opts script_image_opts(void);
/* A random shape of image; size in bytes of at most max_size. */
void script_options(struct rng *r, struct qcow2_create_opts *o, uint64_t max_size, char *text, size_t room);
enum { SCRIPT_SNAPS = 1, SCRIPT_RESIZE = 2 };
/* One random step; NULL, or what went wrong (static text). also: what besides requests. */
const char *script_step(struct rng *r, struct blk_node *n, struct model *m, unsigned also);
/* Compares everything. */
const char *script_compare(struct blk_node *n, const struct model *m);
/* The image's own check: no corruption, no leak. */
const char *script_check(struct blk_node *n);

#endif
