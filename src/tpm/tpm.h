/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A TPM 2.0 that is a process of its own, swtpm, spoken to by its control channel
 * (CMD_*, numbers big-endian, as in swtpm_ioctls(3)) and by a data channel that
 * carries TPM commands and responses.
 *
 * The process is not trusted: lengths are checked, and everything is waited for by a
 * thread of this file's, with time limits.  One that hangs or lies makes the TPM fail
 * (TPM_RC_FAILURE), never the VM stand still.
 *
 * All functions but those that say otherwise: loop's lock held, and they return at once.
 */
#ifndef LODGE_TPM_TPM_H
#define LODGE_TPM_TPM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/loop.h"

#define TPM_BUFFER 4096u	/* of a command, of a response */
#define TPM_HEADER 10u		/* tag (2), size (4), code (4), big-endian */
#define TPM_BLOBS 3		/* permanent, volatile, saved */
#define TPM_BLOB_MAX (1u << 20)

struct tpm;

struct tpm_front {
	/* A response of TPM_HEADER to TPM_BUFFER bytes to the last tpm_submit. */
	void (*done)(void *opaque, const uint8_t *response, size_t len);
	void *opaque;
};

/* What a saved TPM is made of.  Bytes are malloc's. */
struct tpm_state {
	uint8_t *blob[TPM_BLOBS];
	uint32_t len[TPM_BLOBS], flags[TPM_BLOBS];
};
void tpm_state_free(struct tpm_state *s);

/*
 * On a connected control socket, which it owns from then on, also on an error.  Waits up to 10 s for the answers.
 * name: what messages call it.  Lock not needed.
 */
int tpm_new(struct loop *l, int ctrl, const char *name, struct tpm **out, struct err *e);
/* By the path of its control socket. */
int tpm_connect(struct loop *l, const char *path, struct tpm **out, struct err *e);
/* tpm_free tells it to end (CMD_SHUTDOWN), though somebody else has started it.  Lock not needed, before anything else. */
void tpm_ends_with_us(struct tpm *t);
/* Starts swtpm with its state in the folder, which is made (mode 0700) if need be; it ends with tpm_free. */
int tpm_start(struct loop *l, const char *folder, struct tpm **out, struct err *e);
/* Ends the process that tpm_start began, and waits for it, 2 s at most; tells one of tpm_ends_with_us to end.  NULL is allowed. */
void tpm_free(struct tpm *t);

void tpm_attach(struct tpm *t, const struct tpm_front *f);
/* One command at a time; what is under way is dropped. len: up to TPM_BUFFER; copied. */
void tpm_submit(struct tpm *t, uint8_t locality, const uint8_t *cmd, size_t len);
/* Asks it to cancel: the response comes all the same, and soon. */
void tpm_cancel(struct tpm *t);
/* Cancels, and nobody wants the response. */
void tpm_drop(struct tpm *t);
/* Power cycle: what is under way is dropped. */
void tpm_reset(struct tpm *t);
/* Whether a dynamic launch was begun (TPM_ESTABLISHMENT), as known after the last command; and its reset. */
bool tpm_established(struct tpm *t);
void tpm_reset_established(struct tpm *t, uint8_t locality);

/* These wait, timeout_ms at most.  Idle: what is under way ends, and its response is handed over first. */
int tpm_wait_idle(struct tpm *t, unsigned timeout_ms);
int tpm_get_state(struct tpm *t, struct tpm_state *out, unsigned timeout_ms, struct err *e);
int tpm_set_state(struct tpm *t, const struct tpm_state *s, unsigned timeout_ms, struct err *e);

#endif
