/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Passphrases and keys, by name: read from a file or a descriptor, never from a
 * command line, which every process of the host can read.
 *
 * A secret is read when it is first asked for, and once (a descriptor may be a
 * pipe).  It lies in memory of its own that core dumps leave out and that is
 * wiped before it is given back.  One thread at a time.
 */
#ifndef LODGE_BLOCK_SECRET_H
#define LODGE_BLOCK_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define SECRET_MAX (8u << 20)

struct blk_secrets;

struct blk_secret_source {
	const char *file;		/* NULL: the descriptor */
	int fd;				/* read to its end, then closed */
	bool base64;			/* what is there is the secret in base64; else its bytes are, a last newline too */
};

/* Memory that is zero, not dumped and, if the limits allow, not swapped. NULL: no memory */
void *secret_alloc(size_t len);
void secret_free(void *p, size_t len);	/* NULL is allowed */

int blk_secrets_new(struct blk_secrets **out);
/* Texts are copied; the file is not opened yet. EEXIST: the id is taken. */
int blk_secrets_add(struct blk_secrets *s, const char *id, const struct blk_secret_source *from, struct err *e);
/* Forgets it, wiped. ENOENT */
int blk_secrets_remove(struct blk_secrets *s, const char *id);
/* The bytes, 1 to SECRET_MAX of them, which belong to s. ENOENT: no such id; or what reading it gave. */
int blk_secrets_get(struct blk_secrets *s, const char *id, const uint8_t **data, size_t *len, struct err *e);
/* Wipes and frees all. NULL is allowed. */
void blk_secrets_free(struct blk_secrets *s);

#endif
