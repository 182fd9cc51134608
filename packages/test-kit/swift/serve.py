"""OpenStack Swift with its S3 interface, all four servers in one process, for tests.

usage: serve.py FOLDER PORT CONFIGURATION

FOLDER holds everything that it keeps; PORT is that of the S3 interface on 127.0.0.1, 0 for a free one. CONFIGURATION is
JSON: {"users": {"account:user": "secret key"}}. A line with the port on stdout says that it serves.
"""
import ctypes
import json
import logging
import os
import sys

import eventlet
import eventlet.wsgi
from swift.common import utils
from swift.common.ring import RingBuilder
from swift.common.wsgi import loadapp

utils.eventlet_monkey_patch()
# What goes wrong in it is for whoever reads the test's output, not for the machine's log.
utils.ThreadSafeSysLogHandler = lambda **_: logging.StreamHandler(sys.stderr)

# It ends with the process that started it, however that ends (PR_SET_PDEATHSIG).
ctypes.CDLL(None).prctl(1, 9)

HOST = '127.0.0.1'
STORES = ('account', 'container', 'object')
COMMON = '''[DEFAULT]
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
disable_fallocate = true
fallocate_reserve = 0
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
log_level = WARNING
'''
STORE = '''[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
'''
PROXY = '''[pipeline:main]
pipeline = catch_errors gatekeeper listing_formats bulk s3api tempauth slo versioned_writes proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
max_bucket_listing = 50
[filter:tempauth]
use = egg:swift#tempauth
{users}
'''
FILTERS = ('catch_errors', 'gatekeeper', 'listing_formats', 'bulk', 'slo', 'versioned_writes')


class NoMemory:
    """In memcached's place: it forgets everything, so nothing that it answers is out of date."""

    def get(self, *_, **__):
        return None

    def set(self, *_, **__):
        pass

    delete = incr = decr = set


def with_cache(app):
    def call(env, start_response):
        env['swift.cache'] = NoMemory()
        return app(env, start_response)
    return call


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, 'w') as file:
        file.write(text)
    return path


def make_rings(folder, ports):
    """One device, one copy: which ports serve it changes with every start."""
    for kind in STORES:
        builder = RingBuilder(2, 1, 0)
        builder.add_dev({'region': 1, 'zone': 1, 'ip': HOST, 'port': ports[kind], 'device': 'd', 'weight': 1})
        builder.rebalance(seed=1)
        builder.get_ring().save(os.path.join(folder, kind + '.ring.gz'))


def main(folder, port, configuration):
    os.makedirs(os.path.join(folder, 'devices', 'd'), exist_ok=True)
    write(folder, 'swift.conf', '[swift-hash]\nswift_hash_path_suffix = tests\n')
    utils.set_swift_dir(folder)
    sockets = {kind: eventlet.listen((HOST, 0), backlog=512) for kind in STORES}
    sockets['proxy'] = eventlet.listen((HOST, port), backlog=512)
    ports = {kind: socket.getsockname()[1] for kind, socket in sockets.items()}
    make_rings(folder, ports)
    users = '\n'.join(
        'user_{} = {} .admin'.format(name.replace(':', '_'), key) for name, key in configuration['users'].items())
    filters = ''.join('[filter:{0}]\nuse = egg:swift#{0}\n'.format(name) for name in FILTERS)
    served = []
    for kind, socket in sockets.items():
        text = COMMON.format(folder=folder, port=ports[kind])
        text += PROXY.format(users=users) + filters if kind == 'proxy' else STORE.format(kind=kind)
        app = loadapp(write(folder, kind + '-server.conf', text), global_conf={'log_name': kind})
        if kind == 'proxy':
            app = with_cache(app)
        pool = eventlet.GreenPool(1024)
        served.append(eventlet.spawn(
            eventlet.wsgi.server, socket, app, custom_pool=pool, log_output=False, debug=False,
            capitalize_response_headers=False))
    print(ports['proxy'], flush=True)
    for thread in served:
        thread.wait()


main(sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]))
