// A small table beside the pointer.

export function Tip(props: {
  title: string;
  rows: [string, string][];
  x: number;
  y: number;
  box: { width: number; height: number };
}) {
  const { x, y, box } = props;
  const place: Record<string, string> = {};
  if (x < box.width * 0.6) place.left = `${x + 14}px`;
  else place.right = `${box.width - x + 10}px`;
  if (y < box.height * 0.6) place.top = `${y + 14}px`;
  else place.bottom = `${box.height - y + 10}px`;
  return (
    <div class="tip" style={place}>
      <b>{props.title}</b>
      <dl>
        {props.rows.map(([name, value]) => (
          <>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </>
        ))}
      </dl>
    </div>
  );
}
