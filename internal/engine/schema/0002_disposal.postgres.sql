-- Months whose content is on its way out: nothing of them is queued again. Written before the month's keys are destroyed.
CREATE TABLE message_disposal (
    organisation BIGINT NOT NULL,
    period       BIGINT NOT NULL,
    PRIMARY KEY (organisation, period)
);
