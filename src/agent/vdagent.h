/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host's side of SPICE's agent (spice-vdagent in the guest; the protocol is spice-protocol's vd_agent.h): it takes the
 * guest's part in a clipboard.
 *
 * The agent is reached through a virtio port whose name is com.redhat.spice.0 and
 * whose chardev is this one's.  Mouse, monitors, files and sound, which the
 * protocol also has, are not offered.
 */
#ifndef LODGE_AGENT_VDAGENT_H
#define LODGE_AGENT_VDAGENT_H

#include "base/err.h"

#define VDAGENT_PORT "com.redhat.spice.0"

struct chardev;
struct clipboard;
struct machine;
struct vdagent;

/* id: of its saved state.  The clipboard outlives it.  Machine lock held. */
int vdagent_new(struct machine *m, const char *id, struct clipboard *c, struct vdagent **out, struct err *e);
/* For one port; freed with the agent. */
struct chardev *vdagent_chardev(struct vdagent *a);
/* The machine's devices are gone.  Machine lock held.  NULL is allowed. */
void vdagent_free(struct vdagent *a);

#endif
