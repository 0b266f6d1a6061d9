/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The client's side of the control protocol: one connection, one command at a time, waited for. */
#ifndef LODGE_RUN_QMP_H
#define LODGE_RUN_QMP_H

#include <jansson.h>

#include "base/err.h"

struct qmp;

/* Connects to a running guest by its name, by its socket's path if that has a '/', or by tcp:HOST:PORT as --qmp has it (with TLS:
 * tls-ca=FILE, tls-cert=FILE, tls-key=FILE), and negotiates.
 * timeout_ms: how long it may be silent, 0: for ever.  ENOENT: no such guest; ETIMEDOUT: it does not answer. */
int qmp_open(const char *name, unsigned timeout_ms, struct qmp **out, struct err *e);
void qmp_close(struct qmp *q);
/* The answer's "return" in *ret, the caller's.  args is taken over, NULL: none.  EREMOTEIO: the guest's error is in *e.
 * Events that come meanwhile are passed over. */
int qmp_call(struct qmp *q, const char *command, json_t *args, json_t **ret, struct err *e);
/* The next event, the caller's. EPIPE: the guest has ended. */
int qmp_event(struct qmp *q, json_t **event, struct err *e);

/* A file as the guest's process finds it, which may stand in another folder: the whole path.  ENAMETOOLONG and others. */
int whole_path(const char *file, char *out, size_t len, struct err *e);

#endif
