/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The user network as a guest without an operating system sees it: address by
 * DHCP, router by ARP, a TCP connection to a server on the host's loopback, and
 * one from the host through a forwarded port.
 */
#include "net_test.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#define GUEST_IP 0x0a00020fu
#define ROUTER_IP 0x0a000202u

struct fixture {
	struct loop *l;
	struct test_card *c;
};

static int user_new(struct loop *l, const struct net_fwd *fwd, unsigned n, struct net_backend **b, struct err *e)
{
	const struct net_user_opts o = { .fwd = fwd, .n_fwd = n };

	return net_user_new(l, &o, b, e);
}

static void open_net(struct fixture *f, const struct net_fwd *fwd, unsigned n)
{
	struct net_backend *b;
	struct err e = { 0 };

	assert_int_equal(user_new(f->l, fwd, n, &b, &e), 0);
	card_plug(f->c, f->l, b);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->c = calloc(1, sizeof(*f->c));
	*state = f;
	return loop_new(&f->l);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	net_close(f->c->b);
	loop_free(f->l);
	free(f->c);
	free(f);
	return 0;
}

static int send_frame(struct fixture *f, const struct net_vhdr *h, uint8_t *frame, size_t len)
{
	struct iovec v[2] = { { frame, 10 }, { frame + 10, len - 10 } };

	return f->c->b->ops->send(f->c->b, 0, h, v, 2);
}

static bool is_dhcp_offer(const uint8_t *f, size_t len)
{
	return len > 284 && rd16(f + 12) == 0x0800 && f[23] == 17 && rd16(f + 36) == 68 && f[42] == 2 &&
	       f[282] == 53 && f[284] == 2;
}

static void send_discover(struct fixture *f)
{
	uint8_t d[300] = { 0 };

	ip4_header(d, 17, 0, 0xffffffff, sizeof(d) - 34);
	memset(d, 0xff, 6);
	be16(d + 34, 68);
	be16(d + 36, 67);
	be16(d + 38, sizeof(d) - 34);
	d[42] = 1;
	d[43] = 1;
	d[44] = 6;
	be32(d + 46, 0x12345678);
	memcpy(d + 70, d + 6, 6);
	be32(d + 278, 0x63825363);
	d[282] = 53;
	d[283] = 1;
	d[284] = 1;
	d[285] = 255;
	assert_int_equal(send_frame(f, NULL, d, sizeof(d)), 0);
}

static void dhcp_offers_an_address(void **state)
{
	struct fixture *f = *state;
	int i;

	open_net(f, NULL, 0);
	send_discover(f);
	i = card_wait(f->c, is_dhcp_offer, 3000);
	assert_true(i >= 0);
	assert_int_equal(rd32(f->c->frame[i] + 46), 0x12345678);
	assert_int_equal(rd32(f->c->frame[i] + 58), GUEST_IP);
}

static bool is_tftp(const uint8_t *f, size_t len)
{
	return len >= 46 && rd16(f + 12) == 0x0800 && f[23] == 17 && rd16(f + 36) == 2000 && f[42] == 0;
}

/* A read request, and what comes: the operation, its data in *data. */
static int tftp_get(struct fixture *f, const char *name, const uint8_t **data)
{
	uint8_t p[200] = { 0 };
	size_t n = strlen(name), len = 44 + n + 1 + 6;
	int i;

	ip4_header(p, 17, GUEST_IP, ROUTER_IP, len - 34);
	be16(p + 34, 2000);
	be16(p + 36, 69);
	be16(p + 38, (uint16_t)(len - 34));
	p[43] = 1;
	memcpy(p + 44, name, n);
	memcpy(p + 44 + n + 1, "octet", 5);
	f->c->n = 0;
	assert_int_equal(send_frame(f, NULL, p, len), 0);
	i = card_wait(f->c, is_tftp, 3000);
	assert_true(i >= 0);
	*data = f->c->frame[i] + 46;
	return f->c->frame[i][43];
}

/* What a machine that boots from the network needs: a file's name by DHCP, the file by TFTP, and no other. */
static void boot_by_tftp(void **state)
{
	struct fixture *f = *state;
	char dir[] = "/tmp/lodge-tftp-XXXXXX", path[64];
	struct net_user_opts o = { .tftp = dir, .bootfile = "sub/boot.bin", .tftp_server_name = "here" };
	struct net_backend *b;
	struct err e = { "" };
	const uint8_t *data;
	FILE *out;
	int i;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/file", dir);
	out = fopen(path, "w");
	fputs("contents", out);
	fclose(out);
	assert_int_equal(net_user_new(f->l, &o, &b, &e), 0);
	card_plug(f->c, f->l, b);
	send_discover(f);
	i = card_wait(f->c, is_dhcp_offer, 3000);
	assert_true(i >= 0);
	assert_string_equal((char *)f->c->frame[i] + 150, "sub/boot.bin");
	assert_int_equal(tftp_get(f, "file", &data), 3);
	assert_memory_equal(data, "contents", 8);
	assert_int_equal(tftp_get(f, "none", &data), 5);
	assert_int_equal(tftp_get(f, "../../etc/passwd", &data), 5);
	unlink(path);
	rmdir(dir);
}

static void bad_boot_options(void **state)
{
	struct fixture *f = *state;
	char longer[300];
	struct net_user_opts none = { .tftp = "/nonexistent" }, file = { .tftp = "/dev/null" }, name = { .bootfile = longer },
			     server = { .tftp_server_name = longer }, domain = { .domainname = longer };
	struct net_backend *b = NULL;
	struct err e = { 0 };

	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(net_user_new(f->l, &none, &b, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "tftp=/nonexistent"));
	assert_int_equal(net_user_new(f->l, &file, &b, &e), -ENOTDIR);
	assert_int_equal(net_user_new(f->l, &server, &b, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "tftp-server-name=xxx"));
	assert_int_equal(net_user_new(f->l, &domain, &b, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "domainname=xxx"));
	longer[128] = '\0';
	assert_int_equal(net_user_new(f->l, &name, &b, &e), -EINVAL);
	longer[127] = '\0';
	assert_int_equal(net_user_new(f->l, &name, &b, &e), 0);
	card_plug(f->c, f->l, b);
}

/* A card without buffers gets its frames later, in order, and not for ever more of them. */
static void full_card_gets_it_later(void **state)
{
	struct fixture *f = *state;

	open_net(f, NULL, 0);
	f->c->full = true;
	for (int i = 0; i < 2000; i++)
		send_discover(f);
	assert_int_equal(loop_turn(f->l, 0), 0);
	assert_int_equal(f->c->n, 0);
	f->c->full = false;
	f->c->b->ops->rx_ready(f->c->b, 0);
	assert_true(card_wait(f->c, is_dhcp_offer, 3000) >= 0);
}

static bool is_arp_reply(const uint8_t *f, size_t len)
{
	return len >= 42 && rd16(f + 12) == 0x0806 && rd16(f + 20) == 2;
}

static void send_arp(struct fixture *f, uint32_t who)
{
	uint8_t a[60] = { 0 };

	memset(a, 0xff, 6);
	memcpy(a + 6, "\x52\x54\x00\x12\x34\x56", 6);
	be16(a + 12, 0x0806);
	be16(a + 14, 1);
	be16(a + 16, 0x0800);
	a[18] = 6;
	a[19] = 4;
	be16(a + 20, 1);
	memcpy(a + 22, a + 6, 6);
	be32(a + 28, GUEST_IP);
	be32(a + 38, who);
	assert_int_equal(send_frame(f, NULL, a, sizeof(a)), 0);
}

static void router_answers_arp(void **state)
{
	struct fixture *f = *state;
	int i;

	open_net(f, NULL, 0);
	send_arp(f, ROUTER_IP);
	i = card_wait(f->c, is_arp_reply, 3000);
	assert_true(i >= 0);
	assert_int_equal(rd32(f->c->frame[i] + 28), ROUTER_IP);
}

/* ---- a TCP end of 40 lines ---- */

struct conn {
	uint16_t local, remote;
	uint32_t seq, ack;
};

/* With a checksum left to the network, like a real driver. */
static void send_tcp(struct fixture *f, struct conn *t, uint8_t flags, const void *data, size_t len, bool gso)
{
	uint8_t *p = calloc(1, 54 + len);
	struct net_vhdr h = { .flags = 1, .csum_start = 34, .csum_offset = 16 };

	if (gso) {
		h.gso_type = NET_GSO_TCPV4;
		h.gso_size = 1000;
		h.hdr_len = 54;
	}
	ip4_header(p, 6, GUEST_IP, ROUTER_IP, 20 + len);
	be16(p + 34, t->local);
	be16(p + 36, t->remote);
	be32(p + 38, t->seq);
	be32(p + 42, t->ack);
	p[46] = 0x50;
	p[47] = flags;
	be16(p + 48, 60000);
	be16(p + 50, pseudo4(p, 6, 20 + len));
	if (len)
		memcpy(p + 54, data, len);
	assert_true(net_vhdr_check(&h, 54 + len, f->c->b->offloads));
	assert_int_equal(send_frame(f, &h, p, 54 + len), 0);
	t->seq += (uint32_t)len + (flags & 2 ? 1 : 0);
	free(p);
}

static bool is_syn_ack(const uint8_t *f, size_t len)
{
	return len >= 54 && rd16(f + 12) == 0x0800 && f[23] == 6 && (f[47] & 0x12) == 0x12;
}

static bool is_syn(const uint8_t *f, size_t len)
{
	return len >= 54 && rd16(f + 12) == 0x0800 && f[23] == 6 && (f[47] & 0x12) == 0x02;
}

static size_t payload(const uint8_t *f, const uint8_t **p)
{
	size_t head = 34 + (f[46] >> 4) * 4u;

	*p = f + head;
	return 14u + rd16(f + 16) - head;
}

static bool has_payload(const uint8_t *f, size_t len)
{
	const uint8_t *p;

	return len >= 54 && rd16(f + 12) == 0x0800 && f[23] == 6 && payload(f, &p) > 0;
}

static int listen_on_loopback(uint16_t *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	*port = ntohs(a.sin_port);
	return fd;
}

static void *echo(void *arg)
{
	int s = accept(*(int *)arg, NULL, NULL);
	char b[8192];
	ssize_t n;

	while ((n = read(s, b, sizeof(b))) > 0)
		if (write(s, b, (size_t)n) != n)
			break;
	close(s);
	return NULL;
}

/* The guest reaches the host's loopback at the router's address; what it sends
 * in one unsegmented piece comes back byte by byte. */
static void tcp_echo(void **state)
{
	struct fixture *f = *state;
	struct conn t = { .local = 40000, .seq = 1000 };
	uint8_t data[3000], back[3000];
	size_t got = 0;
	const uint8_t *p;
	pthread_t th;
	int s, i;

	open_net(f, NULL, 0);
	s = listen_on_loopback(&t.remote);
	assert_int_equal(pthread_create(&th, NULL, echo, &s), 0);
	send_arp(f, ROUTER_IP);
	send_tcp(f, &t, 2, NULL, 0, false);
	i = card_wait(f->c, is_syn_ack, 3000);
	assert_true(i >= 0);
	assert_int_equal(rd32(f->c->frame[i] + 42), t.seq);
	t.ack = rd32(f->c->frame[i] + 38) + 1;
	send_tcp(f, &t, 0x10, NULL, 0, false);
	for (unsigned k = 0; k < sizeof(data); k++)
		data[k] = (uint8_t)(k * 13);
	send_tcp(f, &t, 0x18, data, sizeof(data), true);
	while (got < sizeof(data)) {
		f->c->n = 0;
		i = card_wait(f->c, has_payload, 3000);
		assert_true(i >= 0);
		for (unsigned k = (unsigned)i; k < f->c->n; k++) {
			size_t n = has_payload(f->c->frame[k], f->c->len[k]) ? payload(f->c->frame[k], &p) : 0;

			if (!n || rd32(f->c->frame[k] + 38) != t.ack)
				continue;
			assert_true(got + n <= sizeof(back));
			memcpy(back + got, p, n);
			got += n;
			t.ack += (uint32_t)n;
		}
		send_tcp(f, &t, 0x10, NULL, 0, false);
	}
	assert_memory_equal(data, back, sizeof(data));
	send_tcp(f, &t, 0x14, NULL, 0, false);
	for (int k = 0; k < 20; k++)
		assert_int_equal(loop_turn(f->l, 1), 0);
	pthread_join(th, NULL);
	close(s);
}

static uint16_t free_port(void)
{
	uint16_t port;

	close(listen_on_loopback(&port));
	return port;
}

/* A connection to a forwarded port of the host arrives at the guest. */
static void forwarded_port(void **state)
{
	struct fixture *f = *state;
	struct net_fwd fwd = { .host_port = free_port(), .guest_port = 22 };
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				 .sin_port = htons(fwd.host_port) };
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), i;

	open_net(f, &fwd, 1);
	send_arp(f, ROUTER_IP);
	assert_true(card_wait(f->c, is_arp_reply, 3000) >= 0);
	connect(s, (struct sockaddr *)&a, sizeof(a));
	i = card_wait(f->c, is_syn, 3000);
	assert_true(i >= 0);
	assert_int_equal(rd16(f->c->frame[i] + 36), 22);
	assert_int_equal(rd32(f->c->frame[i] + 30), GUEST_IP);
	close(s);
}

static void port_in_use(void **state)
{
	struct fixture *f = *state;
	struct net_fwd fwd = { .guest_port = 22 };
	struct net_backend *b = NULL;
	struct err e = { 0 };
	char text[16];
	int s = listen_on_loopback(&fwd.host_port);

	snprintf(text, sizeof(text), "%u", fwd.host_port);
	assert_int_equal(user_new(f->l, &fwd, 1, &b, &e), -EADDRINUSE);
	assert_non_null(strstr(e.msg, text));
	assert_non_null(strstr(e.msg, "in use"));
	close(s);
}

/* The same port twice, UDP: two sockets would share it silently. */
static void udp_port_in_use(void **state)
{
	struct fixture *f = *state;
	struct net_fwd fwd[2] = { { .udp = true, .host_port = free_port(), .guest_port = 53 } };
	struct net_backend *b = NULL;
	struct err e = { 0 };

	fwd[1] = fwd[0];
	assert_int_equal(user_new(f->l, fwd, 2, &b, &e), -EADDRINUSE);
	assert_non_null(strstr(e.msg, "udp"));
}

static void bad_forwards(void **state)
{
	struct fixture *f = *state;
	struct net_fwd host = { .host_addr = "nowhere", .host_port = 1, .guest_port = 1 };
	struct net_fwd guest = { .guest_addr = "::1", .host_port = free_port(), .guest_port = 1 };
	struct net_fwd zero = { .guest_port = 1 };
	struct net_fwd foreign = { .host_addr = "192.0.2.77", .host_port = free_port(), .guest_port = 1 };
	struct net_backend *b = NULL;
	struct err e = { 0 };

	assert_int_equal(user_new(f->l, &host, 1, &b, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "nowhere"));
	assert_int_equal(user_new(f->l, &guest, 1, &b, &e), -EINVAL);
	assert_int_equal(user_new(f->l, &zero, 1, &b, &e), -EINVAL);
	assert_int_equal(user_new(f->l, &foreign, 1, &b, &e), -EADDRNOTAVAIL);
}

/* Frames too short, too long or of nonsense are refused or swallowed. */
static void nonsense_frames(void **state)
{
	struct fixture *f = *state;
	uint8_t *big = calloc(1, NET_MAX_FRAME + 1);

	open_net(f, NULL, 0);
	assert_int_equal(send_frame(f, NULL, big, 13), -EMSGSIZE);
	assert_int_equal(send_frame(f, NULL, big, NET_MAX_FRAME + 1), -EMSGSIZE);
	srandom(1);
	for (int i = 0; i < 2000; i++) {
		size_t len = 14 + (size_t)random() % 200;

		for (size_t k = 0; k < len; k++)
			big[k] = (uint8_t)random();
		be16(big + 12, i % 3 == 0 ? 0x0800 : i % 3 == 1 ? 0x0806 : 0x86dd);
		big[14] = i % 3 ? big[14] : 0x45;
		send_frame(f, NULL, big, len);
	}
	for (int i = 0; i < 10; i++)
		assert_int_equal(loop_turn(f->l, 1), 0);
	free(big);
}

/* Another network than the usual one, and addresses in it; what makes none is refused by name. */
static void other_addresses(void **state)
{
	static const struct { struct net_user_opts o; uint8_t offer[4]; } good[] = {
		{ { .net = "169.254.0.0/16" }, { 169, 254, 0, 15 } },
		{ { .net = "192.168.7.0/255.255.255.0", .host = "192.168.7.1", .dhcpstart = "192.168.7.100" }, { 192, 168, 7, 100 } },
		{ { .net = "10.1.2.16/28" }, { 10, 1, 2, 30 } },
		{ { 0 }, { 10, 0, 2, 15 } },
	};
	static const struct { struct net_user_opts o; const char *why; } bad[] = {
		{ { .net = "10.0.2.0" }, "net=10.0.2.0" }, { { .net = "10.0.2.0/29" }, "net=" }, { { .net = "10.0.2.0/255.0.255.0" }, "net=" },
		{ { .net = "10.0.2.0/" }, "net=" }, { { .net = "x/24" }, "net=" }, { { .host = "10.0.3.1" }, "host=10.0.3.1" }, { { .dns = "10.0.2.2" }, "different" },
		{ { .dhcpstart = "10.0.2.255" }, "dhcpstart=" }, { { .dhcpstart = "10.0.2.0" }, "dhcpstart=" }, { { .host = "no" }, "host=no" },
	};
	struct fixture *f = *state;
	struct net_backend *b = NULL;
	struct err e = { "" };
	int at;

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(net_user_new(f->l, &bad[i].o, &b, &e), -EINVAL);
		assert_non_null(strstr(e.msg, bad[i].why));
	}
	for (unsigned i = 1; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(net_user_new(f->l, &good[i].o, &b, &e), 0);
		net_close(b);
	}
	assert_int_equal(net_user_new(f->l, &good[0].o, &b, &e), 0);
	card_plug(f->c, f->l, b);
	send_discover(f);
	at = card_wait(f->c, is_dhcp_offer, 3000);
	assert_true(at >= 0);
	assert_memory_equal((const uint8_t *)f->c->frame[at] + 58, good[0].offer, 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(dhcp_offers_an_address, setup, teardown),
		cmocka_unit_test_setup_teardown(boot_by_tftp, setup, teardown),
		cmocka_unit_test_setup_teardown(full_card_gets_it_later, setup, teardown),
		cmocka_unit_test_setup_teardown(router_answers_arp, setup, teardown),
		cmocka_unit_test_setup_teardown(tcp_echo, setup, teardown),
		cmocka_unit_test_setup_teardown(forwarded_port, setup, teardown),
		cmocka_unit_test_setup_teardown(port_in_use, setup, teardown),
		cmocka_unit_test_setup_teardown(udp_port_in_use, setup, teardown),
		cmocka_unit_test_setup_teardown(bad_forwards, setup, teardown),
		cmocka_unit_test_setup_teardown(bad_boot_options, setup, teardown),
		cmocka_unit_test_setup_teardown(other_addresses, setup, teardown),
		cmocka_unit_test_setup_teardown(nonsense_frames, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
