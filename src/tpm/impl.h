/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside of tpm/: the control channel, and the thread that talks. */
#ifndef LODGE_TPM_IMPL_H
#define LODGE_TPM_IMPL_H

#include <pthread.h>

#include "tpm/tpm.h"

/* Both ends of the conversation, used by one thread at a time. */
struct tpm_wire {
	int ctrl, data;		/* non-blocking */
	int quit;		/* eventfd, never read: readable means that all waiting ends */
	uint64_t caps;
};

enum { TPM_INIT_KEEP = 0, TPM_INIT_DELETE_VOLATILE = 1 };

/* wire.c.  All wait up to 10 s unless they say otherwise.  0, -ETIMEDOUT, -ECANCELED (quit), -EPROTO, -EIO (the TPM refused), -errno. */
int tpm_wire_open(struct tpm_wire *w);		/* the data channel, capabilities, buffer size */
int tpm_wire_init(struct tpm_wire *w, uint32_t flags);	/* stops it first */
int tpm_wire_locality(struct tpm_wire *w, uint8_t locality);
int tpm_wire_established(struct tpm_wire *w, bool *out);
int tpm_wire_reset_established(struct tpm_wire *w, uint8_t locality);
int tpm_wire_cancel(struct tpm_wire *w);
int tpm_wire_get_blob(struct tpm_wire *w, unsigned i, uint8_t **blob, uint32_t *len, uint32_t *flags);
int tpm_wire_set_blob(struct tpm_wire *w, unsigned i, const uint8_t *blob, uint32_t len, uint32_t flags);
int tpm_wire_stop(struct tpm_wire *w);
int tpm_wire_shutdown(struct tpm_wire *w, int64_t deadline_ns);
int tpm_wire_send(struct tpm_wire *w, const uint8_t *cmd, size_t len);
/* One response to out (TPM_BUFFER bytes).  wake: an eventfd; when it becomes readable: -EINTR, and call again (*got counts). */
int tpm_wire_receive(struct tpm_wire *w, uint8_t *out, size_t *got, int wake, int64_t deadline_ns);

/* start.c: the child; 0: none. */
void tpm_child_end(pid_t pid);

int tpm_new_child(struct loop *l, int ctrl, const char *name, pid_t child, struct tpm **out, struct err *e);

#endif
