/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside of the puppet engine. */
#ifndef LODGE_CPU_PUPPET_IMPL_H
#define LODGE_CPU_PUPPET_IMPL_H

#include "cpu/puppet/puppet.h"

#define PUPPET_MSIS 256

struct puppet_engine {
	struct cpu_engine e;
	bool irqchip;
	_Atomic uint64_t wires;
	pthread_mutex_t mu;		/* of the messages */
	struct msi msi[PUPPET_MSIS];
	unsigned msi_put, msi_got;	/* free-running */
	int socket;			/* served by vCPU 0, or -1 */
};

struct puppet_vcpu {
	struct vcpu v;
	struct puppet_engine *engine;
	struct x86_state state;
	int wakefd;
};

/* Readable when vCPU 0 was kicked; -1 without a vCPU. */
int puppet_wake_fd(struct cpu_engine *e);

#endif
