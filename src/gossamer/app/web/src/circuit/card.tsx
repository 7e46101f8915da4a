/** What is known of a latent: words, where it fires, how often, what is near. */
import type { Shapes } from "../api";
import { count, number, percent } from "../format";

type CardShape = Shapes["Card"];

export function LatentCard({ card, link, near }: { card: CardShape; link?: string; near?: (feature: string) => string }) {
  return (
    <div className="latent">
      {card.explanation && <p className="explained">{card.explanation}</p>}
      {card.tokens === 0 ? <p className="note">What it does is not known: {card.text}. What its weights say:</p> : <p className="facts">Active on {percent(card.density)} of {count(card.tokens, "token")} of {card.text}; mean {number(card.mean)}, largest {number(card.maximum)}.{link && <> <a href={link}>Its page</a></>}{card.link && <> <a href={card.link} target="_blank" rel="noopener noreferrer">Neuronpedia</a></>}</p>}
      <Words title="raises" words={card.promotes} sign="raises" />
      <Words title="lowers" words={card.suppresses} sign="lowers" />
      <Histogram card={card} />
      {card.tokens > 0 && <Examples title="Strongest examples" examples={card.examples} />}
      <Strata examples={card.strata} />
      {card.neighbours.length > 0 && <p className="facts">Near: {card.neighbours.map((one) => <span key={one.feature} className="near" title={one.measure}>{near ? <a href={near(one.feature)}><code>{one.feature}</code></a> : <code>{one.feature}</code>} {number(one.value)}</span>)}</p>}
    </div>
  );
}

/** Examples drawn at random within quantile groups of its activations, the strongest group first. */
function Strata({ examples }: { examples: Shapes["Example"][] }) {
  const groups = [...new Set(examples.map((one) => one.stratum ?? null))].sort((a, b) => (b ?? 0) - (a ?? 0));
  if (!examples.length) return null;
  if (groups.length < 2) return <Examples title="Examples from every part of its range" examples={examples} />;
  return (
    <div>
      <h4>Drawn at random from {groups.length} groups of its activations, each as often met as the others, the strongest first</h4>
      {groups.map((group, place) => <Examples key={group} title={`group ${place + 1} of ${groups.length}`} examples={examples.filter((one) => (one.stratum ?? null) === group)} />)}
    </div>
  );
}

function Words({ title, words, sign }: { title: string; words: Shapes["Word"][]; sign: string }) {
  if (!words.length) return null;
  return (
    <p className="words"><span className="muted">{title}</span> {words.map((one) => <span key={one.word} className={`word ${sign}`} title={`change of its logit ${number(one.value, true)}`}><bdi>{one.word}</bdi></span>)}</p>
  );
}

export function Examples({ title, examples }: { title: string; examples: Shapes["Example"][] }) {
  if (!examples.length) return <p className="note">It fired on none of these texts.</p>;
  return (
    <div className="examples">
      <h4>{title}</h4>
      <ol>
        {examples.map((one, index) => (
          <li key={index}>
            <span className="act" title="activation at the marked token">{number(one.activation)}</span>
            <span className="text">{one.tokens.map((token, place) => <Token key={place} text={token} value={one.activations[place] ?? null} shade={one.shade[place] ?? null} here={place === one.position} />)}</span>
          </li>
        ))}
      </ol>
    </div>
  );
}

/** A token with how active it is: by colour, by the width of its underline, and in words. */
function Token({ text, value, shade, here }: { text: string; value: number | null; shade: number | null; here: boolean }) {
  const level = shade === null || shade <= 0 ? 0 : Math.max(1, Math.ceil(shade * 5));
  return <bdi className={`token s${level}${here ? " here" : ""}`} title={value ? `activation ${number(value)}` : undefined}>{text}</bdi>;
}

function Histogram({ card }: { card: CardShape }) {
  const most = Math.max(1, ...card.counts);
  if (!card.counts.length) return null;
  const [low, high] = [card.edges[0], card.edges.at(-1)];
  const rows = card.counts.map((one, index) => `${number(card.edges[index])} to ${number(card.edges[index + 1])}: ${one}`);
  return (
    <figure className="histogram">
      <svg viewBox={`0 0 ${card.counts.length * 10} 40`} preserveAspectRatio="none" role="img" aria-label={`How often which activation: ${rows.join("; ")}`}>
        {card.counts.map((one, index) => <rect key={index} x={index * 10 + 0.5} width={9} y={40 - (39 * one) / most} height={(39 * one) / most}><title>{rows[index]}</title></rect>)}
      </svg>
      <figcaption><span>{number(low)}</span><span>activation, where it is active (log scale)</span><span>{number(high)}</span></figcaption>
    </figure>
  );
}
