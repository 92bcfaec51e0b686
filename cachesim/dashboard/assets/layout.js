// Where everything stands on the map. Pure: a width in, places out.

export const CLIENT = "client";

/**
 * Return the places of all parts.
 *
 * A zone is a column with its Redis nodes above its Memcached nodes; clients are a bar above them,
 * with the configuration endpoints at its right end. Wires lead from clients down into the zones,
 * and below from zone to zone.
 */
export const layout = (zones, nodes, width, endpoints = []) => {
  const isNarrow = width < 560;
  const gap = isNarrow ? 14 : Math.min(64, width * 0.07);
  const column = (width - gap * (zones.length - 1)) / zones.length;
  const clients = { x: 0, y: 0, width, height: isNarrow ? 48 : 42 };
  const top = clients.height + (isNarrow ? 44 : 46);
  const node = { height: isNarrow ? 66 : 76, gap: isNarrow ? 34 : 36 };
  const inset = isNarrow ? 6 : 12;
  const head = 34;
  const of = (zone, service) => nodes.filter((it) => it.zone === zone.name && it.service === service);
  const most = (service) => Math.max(...zones.map((zone) => of(zone, service).length));
  const first = { redis: 0, memcached: most("redis") }; // the rows in which they begin
  const rows = first.memcached + most("memcached");
  const zoneHeight = head + rows * (node.height + node.gap) - node.gap + inset;
  const places = { clients, zones: {}, nodes: {}, endpoints: {}, isNarrow, width };
  const pad = isNarrow ? 5 : 7;
  const pill = Math.min(230, (width - (isNarrow ? 68 : 120)) / 2 - pad);
  endpoints.forEach((it, index) => {
    const x = width - (endpoints.length - index) * (pill + pad);
    places.endpoints[it.name] = { x, y: pad, width: pill, height: clients.height - 2 * pad };
  });
  clients.room = width - endpoints.length * (pill + pad); // left of the endpoints
  zones.forEach((zone, number) => {
    const x = number * (column + gap);
    places.zones[zone.name] = { x, y: top, width: column, height: zoneHeight, head, number };
    for (const [service, row] of Object.entries(first)) {
      of(zone, service).forEach((it, index) => {
        places.nodes[it.name] = {
          x: x + inset,
          y: top + head + (row + index) * (node.height + node.gap),
          width: column - 2 * inset,
          height: node.height,
        };
      });
    }
  });
  const below = top + zoneHeight;
  places.height = below + (isNarrow ? 74 : 78);
  places.wires = below;
  return places;
};

/** Return the two ends and the course of a path between two places: `d`, and where its mark is. */
export const wire = (places, one, other) => {
  if (one === CLIENT) {
    const zone = places.zones[other];
    const x = zone.x + zone.width / 2;
    return { from: [x, places.clients.height], to: [x, zone.y], mid: [x, (places.clients.height + zone.y) / 2] };
  }
  const [a, b] = [places.zones[one], places.zones[other]];
  const isFar = Math.abs(a.number - b.number) > 1;
  const depth = places.wires + (isFar ? (places.isNarrow ? 56 : 58) : places.isNarrow ? 24 : 25);
  const share = isFar ? 0.28 : 0.72;
  const from = a.x + a.width * share;
  const to = b.x + b.width * (1 - share);
  return {
    from: [from, places.wires],
    to: [to, places.wires],
    mid: [(from + to) / 2, depth],
    depth,
  };
};

/** Return the course of a wire, as a path of SVG. */
export const course = ({ from, to, depth }) => {
  if (depth === undefined) return `M${from} L${to}`;
  const r = 9;
  return (
    `M${from[0]},${from[1]} V${depth - r} q0,${r} ${r},${r} H${to[0] - r} q${r},0 ${r},${-r} V${to[1]}`
  );
};

/** Return the course of replication between two Redis nodes. It arrives at the replica. */
export const replication = (places, primary, replica) => {
  const [from, to] = [places.nodes[primary], places.nodes[replica]];
  const isRight = to.x > from.x;
  const gapY = from.y + from.height;
  const x1 = isRight ? from.x + from.width : from.x;
  const x2 = isRight ? to.x : to.x + to.width;
  const isFar = Math.abs(to.x - from.x) > from.width * 2;
  if (!isFar) {
    const y = from.y + from.height / 2;
    return { d: `M${x1},${y} H${x2}`, tip: [x2, y, isRight ? 1 : -1], mid: [(x1 + x2) / 2, y] };
  }
  // Below the node that is between them.
  const y = gapY + (places.isNarrow ? 17 : 18);
  const start = from.x + from.width * (isRight ? 0.8 : 0.2);
  const end = to.x + to.width / 2;
  const r = 8 * (isRight ? 1 : -1);
  return {
    d: `M${start},${gapY} V${y - 8} q0,8 ${r},8 H${end - r} q${r},0 ${r},-8 V${gapY}`,
    tip: [end, gapY, 0],
    mid: [(start + end) / 2, y],
  };
};
