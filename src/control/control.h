/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control protocol's server: QMP for a virtual machine that runs.
 *
 * Monitors (clients) come over sockets that it listens to, over connections made
 * or handed down at the start, and over standard input and output.  All of it is
 * on the machine's loop with the machine lock held.  Clients are trusted with the
 * guest and with the files this process may open, but not with the process: what
 * they send is bounded and checked, and one that is slow, mad or gone hurts itself.
 *
 * docs: the commands are in schema.txt, what the wire carries in lodge-qmp(1).
 */
#ifndef LODGE_CONTROL_CONTROL_H
#define LODGE_CONTROL_CONTROL_H

#include "base/err.h"
#include "vm/config.h"

struct control;
struct vm;

/*
 * Opens what the configuration wants (cfg->qmp[], cfg->control) and watches the VM.
 * Before vm_run; no lock held.  Errors name the option.
 */
int control_new(struct vm *vm, struct control **out, struct err *e);
/* Waits until each address with wait=on has a client. EINTR: a signal that ends the guest came first. */
int control_wait(struct control *c, struct err *e);
/* After vm_run, before vm_free; no lock held.  Ends jobs and exports, says good-bye as far as clients listen.  NULL is allowed. */
void control_free(struct control *c);

/* Serves a connected stream socket, which it then owns; machine lock held. EBUSY: too many clients; ENOMEM */
int control_attach(struct control *c, int fd);
/* How many clients there are; machine lock held. */
unsigned control_clients(const struct control *c);

/* Whether every --qmp of the configuration makes sense: EINVAL, with a message. */
int control_check(const struct vm_config *cfg, struct err *e);

#endif
