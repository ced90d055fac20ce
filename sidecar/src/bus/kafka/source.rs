//! Where batches are taken from Kafka.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::Message as _;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{CommitMode, Consumer as _, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::metadata::MetadataTopic;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::KafkaBus;
use super::watch::Assignments;
use crate::bus::{EventSource, Heard};
use crate::config::kafka::KafkaSettings;

type Admin = AdminClient<DefaultClientContext>;

/// Partitions of a topic that this sidecar makes.
const PARTITIONS: i32 = 4;
/// Wait between attempts to make a topic, and the longest that one takes.
const TOPIC_INTERVAL: Duration = Duration::from_secs(2);
/// How often what a broker did not take is sent again.
const AGAIN_INTERVAL: Duration = Duration::from_millis(250);
/// How long a consumer may be silent before its share goes to the others, in milliseconds.
const SESSION_TIMEOUT_MS: u64 = 6_000;
/// How often a consumer is heard of, in milliseconds.
const HEARTBEAT_MS: u64 = 2_000;
/// Longest between two looks for messages, and so the longest that a share-out waits for a member
/// that went without a word, in milliseconds.
const POLL_INTERVAL_MS: u64 = 30_000;
/// How long a broker may keep a request for messages that there are none of, in milliseconds: longer
/// than it takes to replace a consumer.
const FETCH_WAIT_MS: u64 = 5_000;
/// How often topics are looked up, in milliseconds.
const METADATA_REFRESH_MS: u64 = 2_000;
/// How often librdkafka tells which brokers it has reached, in milliseconds.
const STATISTICS_MS: u64 = 1_000;

/// Where batches are taken from.
pub struct KafkaSource {
    pub(super) consumer: StreamConsumer<Assignments>,
    bus: KafkaBus,
    config: ClientConfig,
    group: String,
    ticks: Interval,
    has_taken: bool,
    /// A batch that came with moves of lanes, which are told first.
    batch: Option<(Heard, Place)>,
    /// The group is sharing out, as far as this consumer has heard.
    is_sharing_out: bool,
    /// Nothing is asked for until a broker has the topic: at first, and after the loss of all brokers.
    is_waiting: bool,
    /// When a topic that is missing is to be made.
    topic_due: Option<Instant>,
    /// Whether a broker has the topic, while that is not known.
    looking: Option<JoinHandle<bool>>,
}

impl std::fmt::Debug for KafkaSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KafkaSource")
    }
}

impl KafkaSource {
    pub(super) fn new(
        common: &ClientConfig,
        settings: &KafkaSettings,
        bus: KafkaBus,
    ) -> Result<Self, KafkaError> {
        let mut config = common.clone();
        config
            .set("group.id", &settings.group)
            .set("fetch.wait.max.ms", FETCH_WAIT_MS.to_string())
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("allow.auto.create.topics", "true")
            // How soon a topic that was made, or moved, is noticed.
            .set("topic.metadata.refresh.interval.ms", METADATA_REFRESH_MS.to_string())
            .set("statistics.interval.ms", STATISTICS_MS.to_string())
            .set("max.poll.interval.ms", POLL_INTERVAL_MS.to_string())
            .set("session.timeout.ms", SESSION_TIMEOUT_MS.to_string())
            .set("heartbeat.interval.ms", HEARTBEAT_MS.to_string());
        let consumer = consumer(&config, &settings.group, &bus)?;
        let mut ticks = interval(AGAIN_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let group = settings.group.clone();
        Ok(Self {
            consumer,
            bus,
            config,
            group,
            ticks,
            has_taken: false,
            batch: None,
            is_sharing_out: false,
            is_waiting: true,
            topic_due: Some(Instant::now()),
            looking: None,
        })
    }

    /// A consumer that has lost its brokers gives way to a new one, which knows nothing of topics, and
    /// asks for none before a broker has it. Of a topic that it has lost a broker may answer a fetch
    /// with neither a name nor an id (tansu 0.6 does), which librdkafka 2.12 follows
    /// (`rd_kafka_metadata_update_op`), and ends the process.
    fn replace(&mut self) {
        self.is_sharing_out = false;
        match consumer(&self.config, &self.group, &self.bus) {
            Ok(new) => {
                let old = std::mem::replace(&mut self.consumer, new);
                old.context().mute();
                self.bus.watch.set_lanes(0);
                // Its end may wait for a broker, of which it is to want nothing else then.
                old.unsubscribe();
                if let Err(error) = old.unassign() {
                    tracing::debug!(%error, "kafka");
                }
                std::thread::spawn(move || drop(old));
            }
            Err(error) => tracing::warn!(%error, "kafka"),
        }
    }

    fn subscribe(&self) {
        if let Err(error) = self.consumer.subscribe(&[&self.bus.topic]) {
            tracing::warn!(%error, "kafka");
        }
    }

    /// Looks whether a broker has the topic, and makes it if it is missing: a broker that lost it takes
    /// batches all the same, and some brokers make none by themselves. That goes on by itself, because
    /// whoever waits for what comes next may give up at any moment.
    fn look_for_topic(&mut self) {
        let now = Instant::now();
        if self.looking.is_some() || self.topic_due.is_none_or(|due| now < due) {
            return;
        }
        self.topic_due = Some(now + TOPIC_INTERVAL);
        let (config, topic) = (self.config.clone(), self.bus.topic.clone());
        self.looking = Some(tokio::spawn(async move {
            let Ok(client) = config.create::<Admin>() else { return false };
            match has_topic(client, topic.clone()).await {
                Some((_, true)) => {}
                Some((client, false)) => create_topic(&client, &topic).await,
                None => return false,
            }
            true
        }));
    }

    /// A broker has answered, or none has. Where one does, whatever it says, all goes on.
    fn has_looked(&mut self, is_there: bool) {
        self.looking = None;
        if !is_there {
            return;
        }
        self.topic_due = None;
        if std::mem::take(&mut self.is_waiting) {
            self.subscribe();
            self.bus.resume();
        }
    }

    fn failed(&mut self, error: &KafkaError) {
        tracing::debug!(%error, "kafka");
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownTopicOrPartition) {
            self.topic_due = self.topic_due.or(Some(Instant::now()));
        }
        if self.bus.watch.is_loss(error) {
            self.lose();
        }
    }

    /// No broker is left: whoever comes back may have lost the topic.
    fn lose(&mut self) {
        self.bus.watch.set_up(false);
        self.bus.pause();
        if !self.is_waiting {
            self.replace();
            self.is_waiting = true;
            // What it finds may have been before the loss.
            self.looking = None;
            self.topic_due = Some(Instant::now());
        }
    }
}

/// The end of a look for the topic; never, where there is none.
async fn looked(looking: &mut Option<JoinHandle<bool>>) -> bool {
    match looking {
        Some(looking) => looking.await.unwrap_or(false),
        None => std::future::pending().await,
    }
}

/// Whether a broker has the topic; none if no broker answers.
async fn has_topic(client: Admin, topic: Arc<str>) -> Option<(Admin, bool)> {
    // It blocks while it waits for an answer.
    let looked = tokio::task::spawn_blocking(move || {
        let metadata = client.inner().fetch_metadata(Some(&topic), TOPIC_INTERVAL).ok()?;
        let is_there = |topic: &MetadataTopic| topic.error().is_none() && !topic.partitions().is_empty();
        let has_topic = metadata.topics().iter().any(is_there);
        Some((client, has_topic))
    });
    looked.await.ok().flatten()
}

/// Makes the topic. Brokers that let no client make topics may make it themselves when it is asked for.
async fn create_topic(client: &Admin, topic: &str) {
    let topics = [NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(-1))];
    let options = AdminOptions::new().operation_timeout(Some(TOPIC_INTERVAL));
    match tokio::time::timeout(TOPIC_INTERVAL, client.create_topics(&topics, &options)).await {
        Ok(Ok(made)) => {
            for (topic, error) in made.iter().filter_map(|made| made.as_ref().err()) {
                tracing::debug!(topic, %error, "kafka");
            }
        }
        Ok(Err(error)) => tracing::debug!(topic, %error, "kafka"),
        Err(_) => tracing::debug!(topic, "no answer to the wish for a topic"),
    }
}

fn consumer(
    config: &ClientConfig,
    group: &str,
    bus: &KafkaBus,
) -> Result<StreamConsumer<Assignments>, KafkaError> {
    let consumer: StreamConsumer<Assignments> =
        config.create_with_context(Assignments::new(bus.watch.clone(), group))?;
    Ok(consumer)
}

/// Where a message is.
#[derive(Debug)]
struct Place {
    topic: String,
    partition: i32,
    offset: i64,
}

impl Place {
    /// Has the message committed with the next acknowledgement.
    fn is_done(&self, consumer: &StreamConsumer<Assignments>) {
        if let Err(error) = consumer.store_offset(&self.topic, self.partition, self.offset) {
            // The partition went to another consumer, who will hear it too.
            tracing::debug!(%error, "kafka");
        }
    }
}

/// What a message says, and where it is; none for one that is no batch, which is put aside.
fn read(
    message: &BorrowedMessage<'_>,
    consumer: &StreamConsumer<Assignments>,
    bus: &KafkaBus,
) -> Option<(Heard, Place)> {
    bus.watch.set_up(true);
    let place =
        Place { topic: message.topic().to_owned(), partition: message.partition(), offset: message.offset() };
    let payload = message.payload().unwrap_or_default();
    match serde_json::from_slice(payload) {
        Ok(envelope) => {
            bus.watch.count("taken");
            let lane = consumer.context().lane(message.topic(), message.partition());
            Some((Heard::Batch(Some(lane), envelope), place))
        }
        Err(error) => {
            bus.bury(payload, &error.to_string());
            place.is_done(consumer);
            None
        }
    }
}

impl EventSource for KafkaSource {
    async fn next(&mut self) -> Option<Heard> {
        loop {
            if let Some(moved) = self.consumer.context().next() {
                self.is_sharing_out = matches!(moved, Heard::Revoked(_));
                return Some(moved);
            }
            if let Some((batch, place)) = self.batch.take() {
                place.is_done(&self.consumer);
                return Some(batch);
            }
            let error = tokio::select! {
                message = self.consumer.recv() => match message {
                    Ok(message) => {
                        self.has_taken = true;
                        self.batch = read(&message, &self.consumer, &self.bus);
                        continue;
                    }
                    Err(error) => error,
                },
                is_there = looked(&mut self.looking) => {
                    self.has_looked(is_there);
                    continue;
                }
                () = self.consumer.context().has_broken() => {
                    if self.bus.watch.has_one_broker() {
                        self.lose();
                    }
                    continue;
                }
                _ = self.ticks.tick() => {
                    self.bus.send_again();
                    self.look_for_topic();
                    continue;
                }
            };
            self.failed(&error);
        }
    }

    async fn acknowledge(&mut self) {
        if std::mem::take(&mut self.has_taken)
            && let Err(error) = self.consumer.commit_consumer_state(CommitMode::Async)
        {
            tracing::debug!(%error, "kafka");
        }
    }

    fn has_lanes(&self) -> bool {
        true
    }

    fn start_over(&mut self) {
        self.replace();
        if !self.is_waiting {
            self.subscribe();
        }
    }

    /// A group that is sharing out is not left: some brokers (tansu 0.6) wait for ever then for who has
    /// gone. The session timeout ends the membership instead.
    fn leave(self) {
        if self.is_sharing_out {
            std::mem::forget(self.consumer);
        }
    }
}
