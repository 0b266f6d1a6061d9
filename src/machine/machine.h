/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine: memory, buses, clock, devices, vCPUs, run state.
 *
 * One lock, `lock`, protects all device state; bus handlers and loop callbacks
 * hold it.  vCPU threads take it inside bus_access only.  Never wait for a vCPU
 * while holding it.
 */
#ifndef LODGE_MACHINE_MACHINE_H
#define LODGE_MACHINE_MACHINE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "base/loop.h"
#include "machine/bus.h"
#include "machine/clock.h"
#include "machine/dev.h"
#include "machine/irq.h"
#include "machine/mem.h"
#include "machine/vcpu.h"

#define MACHINE_MAX_VCPUS 64

/* What a device, a guest or the host may ask of the run loop. */
enum machine_request {
	MACHINE_REQ_NONE,
	MACHINE_REQ_RESET,	/* port 0x64, 0xcf9, ACPI reset register */
	MACHINE_REQ_POWEROFF,	/* S5 */
	MACHINE_REQ_SUSPEND,	/* S3 */
	MACHINE_REQ_PAUSE,	/* stand still until the host says go on */
	MACHINE_REQ_PANIC,	/* pvpanic */
	MACHINE_REQ_WATCHDOG,	/* a watchdog's time is over */
	MACHINE_REQ_DEBUG,	/* a vCPU has stopped for a debugger; code: which */
	MACHINE_REQ_TRIPLE_FAULT,
	MACHINE_REQ_DEBUG_EXIT,	/* isa-debug-exit, code = (value << 1) | 1 */
	MACHINE_REQ_ENGINE_ERROR,
	MACHINE_REQ_QUIT,	/* the host wants the process to end */
};

/* What a device has to tell whoever watches the machine. */
enum machine_event {
	MACHINE_EV_RTC_CHANGE,		/* the guest set its clock; value: seconds it is ahead of the host's */
	MACHINE_EV_BALLOON_CHANGE,	/* the guest changed its balloon */
	MACHINE_EV_PORT_CHANGE,		/* the guest opened (bit 0) or closed a port; its number in the bits above */
	MACHINE_EV_MEMORY_SIZE,		/* the guest plugged or unplugged memory; value: of which memory device */
	MACHINE_EV_CPU_OST,		/* the guest's system said what became of a CPU that came or was asked for; value: which */
};

struct machine {
	pthread_mutex_t lock;
	struct loop *loop;
	struct clock *clock;
	struct mem *mem;
	struct bus *pio, *mmio;
	struct list devs;
	/* Of devices that are added now: they come before those of a higher rank.  So one that comes late stands where it would
	 * have stood from the start, and saved state has it there. */
	unsigned rank;

	unsigned n_vcpus;	/* there may be; those that are not plugged in are `absent` (vcpu.h) */
	struct vcpu *vcpus[MACHINE_MAX_VCPUS];	/* owned by the engine */

	/* Interrupt entry points, set by the platform builder: either the
	 * user-space chips or the engine's in-kernel ones. */
	int (*msi)(void *opaque, const struct msi *msg);
	void *msi_opaque;

	/* Set by the platform where local APICs are the engine's but the other
	 * interrupt chips are not (split irqchip); machine lock held.  EOI of a
	 * level-triggered vector; acknowledge cycle of the 8259 pair. */
	void (*ioapic_eoi)(void *opaque, uint8_t vector);
	uint8_t (*extint_ack)(void *opaque);
	void *ioapic_opaque;

	/* Set by the engine, NULL: there is nothing to do.  Machine lock held: what vCPUs wrote to watched
	 * pages (mem.h) is noted, and what they write from now on will be. */
	void (*watch_sync)(void *opaque);
	void *watch_opaque;
	/* The same for the log of all RAM (dirty.h), each NULL if there is nothing to do: what the engine has
	 * logged by itself goes to the page flags, and its log is on or off as the memory's is (0 or -errno);
	 * vCPUs forget what they may write without telling, which VCPU_EV_WATCH stands for until they have. */
	int (*dirty_sync)(void *opaque);
	void (*dirty_again)(void *opaque);

	/* Set by vm; called with the machine lock held, any thread. */
	void (*request)(void *opaque, enum machine_request req, int code);
	void *request_opaque;

	/* Set by who watches; called with the machine lock held, any thread. NULL: nobody. */
	void (*event)(void *opaque, enum machine_event ev, int64_t value);
	void *event_opaque;
};

/* manual_clock: see clock.h.  On success everything but vCPUs exists. */
int machine_new(struct machine **out, bool manual_clock);
/* Frees devices in reverse order, then the rest.  vCPUs must be gone. */
void machine_free(struct machine *m);
/* Frees the devices only, in reverse order: for an owner whose back ends live
 * on the machine's loop and must go after the devices.  Machine lock held. */
void machine_free_devs(struct machine *m);

static inline void machine_lock(struct machine *m) { pthread_mutex_lock(&m->lock); }
static inline void machine_unlock(struct machine *m) { pthread_mutex_unlock(&m->lock); }

/* Device methods over all devices, machine lock held. */
void machine_reset_devs(struct machine *m);
void machine_pause_devs(struct machine *m);
void machine_resume_devs(struct machine *m);
/* *who, unless NULL: the device that failed. */
int machine_save_devs(struct machine *m, struct snap_out *o, const char **who);
int machine_load_devs(struct machine *m, struct snap_in *in, struct err *e);

/* Delivers a message interrupt; machine lock held. Dropped when nobody can. */
void machine_msi(struct machine *m, const struct msi *msg);
void machine_ask(struct machine *m, enum machine_request req, int code);
static inline void machine_tell(struct machine *m, enum machine_event ev, int64_t value)
{
	if (m->event)
		m->event(m->event_opaque, ev, value);
}

#endif
