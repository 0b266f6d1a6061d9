/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine object: it makes the parts every machine has, and walks the
 * devices.  What stands at which address is the platform builder's business.
 */
#include "machine/machine.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"

#define PIO_SPACE 0x10000ull
#define MMIO_SPACE (1ull << 52)

int machine_new(struct machine **out, bool manual_clock)
{
	struct machine *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return -ENOMEM;
	pthread_mutex_init(&m->lock, NULL);
	list_init(&m->devs);
	r = loop_new(&m->loop);
	if (r)
		goto fail;
	loop_set_lock(m->loop, &m->lock);
	r = clock_new(&m->clock, m->loop, manual_clock);
	if (r)
		goto fail;
	r = mem_new(&m->mem);
	if (r)
		goto fail;
	r = bus_new(&m->pio, "port", PIO_SPACE, 4, &m->lock);
	if (r)
		goto fail;
	r = bus_new(&m->mmio, "memory", MMIO_SPACE, 8, &m->lock);
	if (r)
		goto fail;
	*out = m;
	return 0;

fail:
	machine_free(m);
	return r;
}

void machine_free_devs(struct machine *m)
{
	while (!list_empty(&m->devs)) {
		struct dev *d = list_entry(m->devs.prev, struct dev, node);

		list_del(&d->node);
		if (d->ops->free)
			d->ops->free(d);
	}
}

void machine_free(struct machine *m)
{
	if (!m)
		return;
	machine_lock(m);
	machine_free_devs(m);
	machine_unlock(m);
	bus_free(m->mmio);
	bus_free(m->pio);
	mem_free(m->mem);
	clock_free(m->clock);
	loop_free(m->loop);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

void machine_reset_devs(struct machine *m)
{
	list_for_each_safe(n, &m->devs) {
		struct dev *d = list_entry(n, struct dev, node);

		if (d->ops->reset)
			d->ops->reset(d);
	}
}

void machine_pause_devs(struct machine *m)
{
	list_for_each_safe(n, &m->devs) {
		struct dev *d = list_entry(n, struct dev, node);

		if (d->ops->pause)
			d->ops->pause(d);
	}
}

void machine_resume_devs(struct machine *m)
{
	list_for_each_safe(n, &m->devs) {
		struct dev *d = list_entry(n, struct dev, node);

		if (d->ops->resume)
			d->ops->resume(d);
	}
}

int machine_save_devs(struct machine *m, struct snap_out *o, const char **who)
{
	list_for_each(n, &m->devs) {
		struct dev *d = list_entry(n, struct dev, node);
		int r = d->ops->save ? d->ops->save(d, o) : 0;

		if (r && who)
			*who = d->id;
		if (r)
			return r;
	}
	return 0;
}

int machine_load_devs(struct machine *m, struct snap_in *in, struct err *e)
{
	list_for_each(n, &m->devs) {
		struct dev *d = list_entry(n, struct dev, node);
		int r = d->ops->load ? d->ops->load(d, in, e) : 0;

		if (r)
			return err_prefix(e, r, "device %s", d->id);
	}
	return 0;
}

void machine_msi(struct machine *m, const struct msi *msg)
{
	if (m->msi)
		m->msi(m->msi_opaque, msg);
}

void machine_ask(struct machine *m, enum machine_request req, int code)
{
	if (m->request)
		m->request(m->request_opaque, req, code);
	else
		log_debug("machine request %d (%d): nobody listens", (int)req, code);
}
