/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ACPI fixed hardware (ACPI 6.5, 4.8.3 and 4.8.4).
 *
 * Registers may be accessed in any width, so they are kept and written by
 * bytes.  The PM timer is computed; TMR_STS is set when its top bit changes,
 * which is found out when somebody looks, and by a timer if the event is enabled.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "chipset/acpi_pm.h"
#include "machine/machine.h"

#define PM_HZ 3579545u
#define HALF BIT64(31)			/* ticks between changes of the top bit */

enum {
	STS_TMR = BIT(0), STS_GBL = BIT(5), STS_PWRBTN = BIT(8), STS_SLPBTN = BIT(9),
	STS_RTC = BIT(10), STS_WAK = BIT(15),
};
#define STS_ALL (STS_TMR | BIT(4) | STS_GBL | STS_PWRBTN | STS_SLPBTN | STS_RTC | STS_WAK)
#define EN_ALL (STS_TMR | STS_GBL | STS_PWRBTN | STS_SLPBTN | STS_RTC)
enum { CNT_SCI_EN = BIT(0), CNT_BM_RLD = BIT(1), CNT_GBL_RLS = BIT(2), CNT_SLP_TYP = 7 << 10, CNT_SLP_EN = BIT(13) };

enum { RST_CPU = BIT(2) };

struct acpi_pm {
	struct dev dev;
	struct acpi_pm_config cfg;
	struct bus_region evt, cnt_region, tmr, gpe, smi, reset;
	struct vtimer timer;
	uint16_t sts, en, cnt;
	uint8_t gpe_sts[8], gpe_en[8];
	uint64_t gpe_lines;
	uint8_t smi_data[2];
	uint8_t reset_reg;
	uint64_t next_change;		/* tick at which the top bit changes next */
};

static const struct snap_field fields[] = {
	SNAP_FIELD(struct acpi_pm, sts),
	SNAP_FIELD(struct acpi_pm, en),
	SNAP_FIELD(struct acpi_pm, cnt),
	SNAP_ARRAY(struct acpi_pm, gpe_sts),
	SNAP_ARRAY(struct acpi_pm, gpe_en),
	SNAP_FIELD(struct acpi_pm, gpe_lines),
	SNAP_ARRAY(struct acpi_pm, smi_data),
	SNAP_FIELD(struct acpi_pm, reset_reg),
	SNAP_FIELD(struct acpi_pm, next_change),
	SNAP_END
};
static const struct snap_table table = { "acpi_pm", 1, fields };

static uint64_t now_tick(struct acpi_pm *p)
{
	return (uint64_t)((__int128)clock_now(p->dev.m->clock) * PM_HZ / 1000000000);
}

static int64_t tick_ns(uint64_t tick)
{
	return (int64_t)(((__int128)tick * 1000000000 + PM_HZ - 1) / PM_HZ);
}

static bool gpe_pending(const struct acpi_pm *p)
{
	for (int i = 0; i < 8; i++)
		if (p->gpe_sts[i] & p->gpe_en[i])
			return true;
	return false;
}

/* Notes a change of the timer's top bit, sets SCI, arms for the next change. */
static void update(struct acpi_pm *p)
{
	uint64_t now = now_tick(p);

	if (now >= p->next_change) {
		p->sts |= STS_TMR;
		p->next_change = (now / HALF + 1) * HALF;
	}
	irq_set(&p->cfg.sci, p->cnt & CNT_SCI_EN && ((p->sts & p->en & EN_ALL) || gpe_pending(p)));
	if (p->en & STS_TMR && !(p->sts & STS_TMR))
		vtimer_arm(&p->timer, tick_ns(p->next_change));
	else
		vtimer_cancel(&p->timer);
}

static void timer_cb(void *opaque)
{
	update(opaque);
}

static uint64_t evt_read(void *opaque, uint64_t off, unsigned len)
{
	struct acpi_pm *p = opaque;

	update(p);
	return ((uint32_t)p->sts | (uint32_t)p->en << 16) >> (8 * off);
}

static void evt_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct acpi_pm *p = opaque;

	update(p);
	for (unsigned i = 0; i < len; i++, val >>= 8) {
		unsigned shift = 8 * ((off + i) & 1);
		uint16_t b = (uint16_t)((val & 0xff) << shift);

		if (off + i < 2)
			p->sts &= (uint16_t)~b;		/* write 1 to clear */
		else
			p->en = (uint16_t)(((p->en & ~(0xff << shift)) | b) & EN_ALL);
	}
	update(p);
}

static uint64_t cnt_read(void *opaque, uint64_t off, unsigned len)
{
	struct acpi_pm *p = opaque;

	return p->cnt >> (8 * off);
}

static void sleep_request(struct acpi_pm *p)
{
	switch ((p->cnt & CNT_SLP_TYP) >> 10) {
	case ACPI_PM_SLP_S5:
		machine_ask(p->dev.m, MACHINE_REQ_POWEROFF, 0);
		break;
	case ACPI_PM_SLP_S3:
		machine_ask(p->dev.m, MACHINE_REQ_SUSPEND, 0);
		break;
	}
}

static void cnt_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct acpi_pm *p = opaque;
	uint16_t mask = (uint16_t)((len == 1 ? 0xff : 0xffff) << (8 * off));
	uint16_t v = (uint16_t)(val << (8 * off)) & mask;

	/* SCI_EN belongs to the SMI command port; SLP_EN reads as 0. */
	mask &= CNT_BM_RLD | CNT_SLP_TYP;
	p->cnt = (uint16_t)((p->cnt & ~mask) | (v & mask));
	if (v & CNT_SLP_EN)
		sleep_request(p);
}

static uint64_t tmr_read(void *opaque, uint64_t off, unsigned len)
{
	struct acpi_pm *p = opaque;

	return (uint32_t)now_tick(p) >> (8 * off);
}

static uint64_t gpe_read(void *opaque, uint64_t off, unsigned len)
{
	struct acpi_pm *p = opaque;
	uint64_t v = 0;

	for (unsigned i = 0; i < len; i++) {
		unsigned n = (unsigned)off + i;

		v |= (uint64_t)(n < 8 ? p->gpe_sts[n] : p->gpe_en[n - 8]) << (8 * i);
	}
	return v;
}

static void gpe_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct acpi_pm *p = opaque;

	for (unsigned i = 0; i < len; i++, val >>= 8) {
		unsigned n = (unsigned)off + i;

		if (n < 8)
			p->gpe_sts[n] &= (uint8_t)~val;
		else
			p->gpe_en[n - 8] = (uint8_t)val;
	}
	update(p);
}

static uint64_t smi_read(void *opaque, uint64_t off, unsigned len)
{
	struct acpi_pm *p = opaque;

	return p->smi_data[off];
}

static void smi_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct acpi_pm *p = opaque;

	p->smi_data[off] = (uint8_t)val;
	if (off)
		return;
	if (val == ACPI_PM_ENABLE)
		p->cnt |= CNT_SCI_EN;
	else if (val == ACPI_PM_DISABLE)
		p->cnt &= (uint16_t)~CNT_SCI_EN;
	update(p);
}

static uint64_t reset_read(void *opaque, uint64_t off, unsigned len)
{
	struct acpi_pm *p = opaque;

	return p->reset_reg;
}

static void reset_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct acpi_pm *p = opaque;

	p->reset_reg = val & 0xa;		/* bit 2 is a trigger */
	if (val & RST_CPU)
		machine_ask(p->dev.m, MACHINE_REQ_RESET, 0);
}

static const struct bus_ops evt_ops = { .read = evt_read, .write = evt_write, .max_len = 4 };
static const struct bus_ops cnt_ops = { .read = cnt_read, .write = cnt_write, .max_len = 2 };
static const struct bus_ops tmr_ops = { .read = tmr_read, .max_len = 4 };
static const struct bus_ops gpe_ops = { .read = gpe_read, .write = gpe_write, .max_len = 4 };
static const struct bus_ops smi_ops = { .read = smi_read, .write = smi_write, .max_len = 1 };
static const struct bus_ops reset_ops = { .read = reset_read, .write = reset_write, .max_len = 1 };

bool acpi_pm_power_button(struct acpi_pm *p)
{
	p->sts |= STS_PWRBTN;
	update(p);
	return p->cnt & CNT_SCI_EN && p->en & STS_PWRBTN;
}

static void set_gpe(void *opaque, int n, bool level)
{
	struct acpi_pm *p = opaque;
	bool was = p->gpe_lines >> n & 1;

	if (level == was)
		return;
	p->gpe_lines ^= BIT64(n);
	if (level) {
		p->gpe_sts[n / 8] |= (uint8_t)BIT(n % 8);
		update(p);
	}
}

struct irq acpi_pm_gpe(struct acpi_pm *p, int n)
{
	if (n < 0 || n > 63)
		return (struct irq){ 0 };
	return (struct irq){ .set = set_gpe, .opaque = p, .n = n };
}

static void set_rtc(void *opaque, int n, bool level)
{
	struct acpi_pm *p = opaque;

	if (!level)
		return;
	p->sts |= STS_RTC;
	update(p);
}

struct irq acpi_pm_rtc(struct acpi_pm *p) { return (struct irq){ .set = set_rtc, .opaque = p }; }

void acpi_pm_wake(struct acpi_pm *p)
{
	p->sts |= STS_WAK;
	update(p);
}

static void pm_reset(struct dev *d)
{
	struct acpi_pm *p = container_of(d, struct acpi_pm, dev);

	p->sts = p->en = 0;
	p->cnt = p->cfg.smi_cmd ? 0 : CNT_SCI_EN;
	for (int i = 0; i < 8; i++)
		p->gpe_sts[i] = p->gpe_en[i] = 0;
	p->smi_data[0] = p->smi_data[1] = 0;
	p->reset_reg = 0;
	p->next_change = (now_tick(p) / HALF + 1) * HALF;
	update(p);
}

static int pm_save(struct dev *d, struct snap_out *o)
{
	return snap_put(o, d->id, &table, container_of(d, struct acpi_pm, dev));
}

static int pm_load(struct dev *d, struct snap_in *in, struct err *e)
{
	struct acpi_pm *p = container_of(d, struct acpi_pm, dev);
	int ret = snap_get(in, d->id, &table, p, e);

	if (ret)
		return ret;
	if (p->next_change > INT64_MAX / 1000)
		return err_set(e, -EINVAL, "saved ACPI PM timer makes no sense");
	update(p);
	return 0;
}

static void unregister(struct acpi_pm *p)
{
	struct bus_region *all[] = { &p->evt, &p->cnt_region, &p->tmr, &p->gpe, &p->smi, &p->reset };

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		bus_del(all[i]);
}

static void pm_free(struct dev *d)
{
	struct acpi_pm *p = container_of(d, struct acpi_pm, dev);

	vtimer_cancel(&p->timer);
	unregister(p);
	dev_del(d);
	free(p);
}

static const struct dev_ops pm_dev_ops = {
	.name = "acpi_pm",
	.reset = pm_reset,
	.save = pm_save,
	.load = pm_load,
	.free = pm_free,
};

/* A port of 0 means that the register is not there. */
static int add(struct acpi_pm *p, struct machine *m, struct bus_region *r, const char *name,
	       const struct bus_ops *ops, uint16_t port, unsigned size)
{
	if (!port)
		return 0;
	/* Above the PCI configuration address register, which surrounds 0xcf9. */
	*r = (struct bus_region){ .name = name, .ops = ops, .opaque = p, .base = port, .size = size,
				  .priority = 2 };
	return bus_add(m->pio, r);
}

int acpi_pm_new(struct machine *m, const struct acpi_pm_config *cfg, struct acpi_pm **out)
{
	struct acpi_pm *p = calloc(1, sizeof(*p));
	int ret;

	if (!p)
		return -ENOMEM;
	p->cfg = *cfg;
	ret = add(p, m, &p->evt, "pm1a_evt", &evt_ops, cfg->pm1a_evt, 4);
	if (!ret)
		ret = add(p, m, &p->cnt_region, "pm1a_cnt", &cnt_ops, cfg->pm1a_cnt, 2);
	if (!ret)
		ret = add(p, m, &p->tmr, "pm_tmr", &tmr_ops, cfg->pm_tmr, 4);
	if (!ret)
		ret = add(p, m, &p->gpe, "gpe0", &gpe_ops, cfg->gpe0, ACPI_PM_GPE_LEN);
	if (!ret)
		ret = add(p, m, &p->smi, "smi_cmd", &smi_ops, cfg->smi_cmd, 2);
	if (!ret)
		ret = add(p, m, &p->reset, "reset", &reset_ops, cfg->reset, 1);
	if (ret) {
		unregister(p);
		free(p);
		return ret;
	}
	vtimer_init(m->clock, &p->timer, timer_cb, p);
	dev_add(m, &p->dev, &pm_dev_ops, "pc.acpi_pm");
	pm_reset(&p->dev);
	*out = p;
	return 0;
}
